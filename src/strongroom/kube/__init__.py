"""The only code that speaks to the Kubernetes API: client, cache, queue, election, reviews."""
