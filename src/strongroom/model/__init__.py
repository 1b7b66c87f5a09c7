"""Values every room shares: secrets, references, principals, decisions, clocks, errors.

Imports nothing but the standard library, so that any room, the agent included, can use it.
"""
