"""Storage engines: one contract, rows sealed by the barrier, SQLite as the embedded default."""
