"""Encryption at rest: KMS v2 plugin, and the proof read from etcd."""
