"""The server's configuration: Vault's file format read into settings, and what they open."""
