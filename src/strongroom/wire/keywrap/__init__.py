"""What wraps keys outside this process: one protocol, one file for each backend.

The KMS plugin and the seal of the store both use them; neither knows the other.
"""
