"""Tests against the real world: registries, base images, other builders and runtimes."""
