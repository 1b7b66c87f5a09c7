"""External Secrets Operator's API: stores, external secrets, drift."""
