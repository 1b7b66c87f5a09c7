"""Sync: external-secrets.io objects, unchanged, from a store into Kubernetes Secrets."""
