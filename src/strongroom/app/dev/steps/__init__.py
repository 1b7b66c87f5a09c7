"""The six steps of the tour; each returns the evidence it shows."""
