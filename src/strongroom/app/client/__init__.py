"""The command line of a Vault user: the same words, flags, output and exit statuses."""
