"""The store: Vault's HTTP API on a storage engine, one pipeline for every request."""
