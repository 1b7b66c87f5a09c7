"""Rotation with evidence: plan, write, wait for consumers, retire."""
