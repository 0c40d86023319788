"""Git repositories: one commit of them, as a tree of files, by the system's git."""
