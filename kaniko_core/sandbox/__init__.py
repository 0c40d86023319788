"""How a command runs."""
