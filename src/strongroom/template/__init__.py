"""Go text/template with sprig on byte strings: templates of external-secrets and of the agent."""
