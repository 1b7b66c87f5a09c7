"""Where values come from: one protocol, one file for each provider."""
