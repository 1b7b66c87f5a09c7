"""Encryption at rest: the KMS v2 plugin, and the proof of what lies in etcd."""
