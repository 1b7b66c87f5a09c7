"""A real Kubernetes cluster without containers around it, for `strongroom dev` and the tests."""
