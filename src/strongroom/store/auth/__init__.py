"""Auth methods: how a caller becomes the holder of a token."""
