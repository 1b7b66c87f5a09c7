"""Secrets engines: what lies under a mount."""
