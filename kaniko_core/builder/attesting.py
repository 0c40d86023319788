"""What a build knows of itself: for provenance, what was asked for and what it was made of."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from kaniko_core.addresses.url import is_http_address
from kaniko_core.attestations.materials import Dependency, commit_set
from kaniko_core.attestations.provenance import Built, Request, Run
from kaniko_core.attestations.purl import digest_set
from kaniko_core.builder.cached.known import Known, path_in_context
from kaniko_core.builder.plan import ImageBase
from kaniko_core.builder.project import Project
from kaniko_core.dockerfile import instructions
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image


def request_of(known: Known, target: str) -> Request:
    """Return what the user asked for, who wants the image of *target*."""
    build, fetched = known.build, known.project.fetched
    return Request(
        context="" if fetched is None else fetched.address,
        context_digest={} if fetched is None else _digest_of(fetched.version),
        dockerfile=_dockerfile(known.project),
        text=known.project.text,
        target=target,
        build_args={name: value for name, value in build.build_arg if value is not None},
        labels=dict(known.image.label),
        secrets=tuple(secret.id for secret in build.secret),
        ssh=tuple(agent.id for agent in build.ssh),
    )


def _digest_of(version: Digest | str) -> Mapping[str, str]:
    return digest_set(version) if isinstance(version, Digest) else commit_set(version)


def _dockerfile(project: Project) -> str:
    # Where a machine checks the context out is nobody's business, and another place each time.
    path = project.dockerfile.path
    return path if is_http_address(path) else path_in_context(project)


def run_of(known: Known, version: str, started: datetime) -> Run:
    """Return this run of the program; of a reproducible build, only what is true of all of them."""
    if known.image.reproducible:
        return Run(version=version)
    return Run(
        version=version,
        invocation=str(uuid.uuid4()),
        started=started,
        finished=datetime.now(UTC),
    )


def built(known: Known, image: Image) -> Built:
    """Return *image* with what it was made of."""
    commands = [
        item
        for stage in known.plan.stages.values()
        for item in stage.instructions
        if isinstance(item, instructions.Run)
    ]
    networked = any(command.network != "none" for command in commands)
    return Built(image, tuple(_dependencies(known)), networked)


def _dependencies(known: Known) -> Iterator[Dependency]:
    for wanted in sorted(known.plan.images, key=lambda wanted: wanted.name):
        digest = known.images.find(wanted).digest
        if isinstance(wanted, ImageBase):
            yield Dependency.image(wanted.reference, digest, wanted.platform)
        else:
            yield Dependency.layout(wanted.name, digest, wanted.platform)
    for address, what in sorted(known.remote.fetched().items()):
        if isinstance(what, Digest):
            yield Dependency.http(address, what)
        else:
            yield Dependency.git(address, what)
