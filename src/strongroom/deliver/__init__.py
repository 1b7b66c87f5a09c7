"""Delivery of secrets to applications as files on tmpfs."""
