"""Build container images from a Dockerfile without a daemon, and keep base images warm."""

__version__ = "0.1.0"
