"""Checks of encryption at rest: what a configuration means, and what is wrong with it."""
