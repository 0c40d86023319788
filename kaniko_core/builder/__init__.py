"""How it becomes an image: :func:`build` is the way in."""

from kaniko_core.builder.build import build
from kaniko_core.builder.output import BuildResult

__all__ = ["BuildResult", "build"]
