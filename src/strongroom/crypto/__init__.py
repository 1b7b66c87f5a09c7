"""AEAD, key rings, HMAC, key files, certificates; the only importer of cryptography."""
