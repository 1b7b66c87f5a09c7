"""Processes, command line, configuration and wiring; the only reader of argv and environment."""
