"""Build checks: what is allowed in a Dockerfile, but rarely meant. Pure."""
