"""Seals: who keeps the key that opens the key ring."""
