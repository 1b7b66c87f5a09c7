"""The policy language and the one decision engine that enforces and explains."""
