"""The KMS v2 plugin: keys in memory, wrapped by backends, served on a unix socket."""
