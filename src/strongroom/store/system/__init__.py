"""The `sys/` paths, one file for each thing they speak of."""
