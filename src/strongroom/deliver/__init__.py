"""Secrets as files on tmpfs: the agent and what it acknowledges."""
