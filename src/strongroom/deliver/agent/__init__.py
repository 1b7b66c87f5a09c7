"""The agent: standard library only; runs beside an application and keeps its files right."""
