"""Rotation: a new credential, evidence that everybody uses it, and only then the end of the old."""
