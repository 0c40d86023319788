"""Git LFS: the files that a repository keeps elsewhere."""
