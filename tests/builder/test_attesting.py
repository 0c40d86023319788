"""What a build says of itself, for provenance."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kaniko_core.builder.attesting import request_of
from kaniko_core.builder.cached.known import Known
from kaniko_core.builder.project import Project
from kaniko_core.context import BuildContext
from kaniko_core.context.named import NamedContexts
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.options import BuildOptions, ImageOptions


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/ci/job-17/docker/app.Dockerfile", "docker/app.Dockerfile"),
        ("/elsewhere/job-17/Dockerfile", "Dockerfile"),
        ("https://example.com/Dockerfile", "https://example.com/Dockerfile"),
    ],
)
def test_place_of_the_checkout_is_not_told(path: str, told: str) -> None:
    """It is another one each time, and what is reproducible would not be."""
    project = Project(
        BuildContext(Path("/ci/job-17")),
        NamedContexts(),
        parse_dockerfile(b"FROM scratch\n", path),
        {},
    )
    given = SimpleNamespace(build=BuildOptions(), image=ImageOptions(), project=project)
    assert request_of(cast(Known, given), "").dockerfile == told
