"""The secret store: mounts, tokens, KV, seal and the request pipeline of Vault's HTTP API."""
