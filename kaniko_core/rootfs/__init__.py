"""The file system under construction."""
