"""Strongroom: secrets management for Kubernetes."""
