"""Identity: who a caller is across auth methods, and the groups that add policies."""
