"""What is not of the stable language is refused, with its place; everything else passes."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.support import refuse_unsupported
from kaniko_core.errors import DockerfileError


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RUN --device=x a", "RUN --device"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(text: str, what: str) -> None:
    dockerfile = parse_dockerfile(f"FROM a\nFROM b\n{text}\n".encode(), "Dockerfile")
    with pytest.raises(DockerfileError) as caught:
        refuse_unsupported(dockerfile.stages[-1].instructions)
    assert str(caught.value).startswith(f"Dockerfile:3: {what} is not supported: ")
    assert caught.value.hint


def test_what_is_supported_passes() -> None:
    text = """
    ARG A=1
    FROM --platform=linux/amd64 a AS b
    ARG A
    ENV B=$A
    RUN --network=none --security=insecure --mount=type=cache,target=/x --mount=from=b a
    RUN <<A
    a
A
    RUN ["a"]
    COPY --from=b --chown=a:b --chmod=u+x --link --parents --exclude=x *.py /x/
    ADD --chmod=755 --link --unpack=false --exclude=x x.tar.gz https /x/
    COPY <<A <<-"B" /x/
    a
A
    b
B
    ADD <<A /x/
A
    ADD github.com/x ./git@x /y/
    ADD --checksum=sha256:0 https://example.com/x /y/
    ADD --keep-git-dir https://example.com/x.git#main:dir git@example.com:x/y /y/
    WORKDIR /x
    USER a
    LABEL a=b
    EXPOSE 80
    VOLUME /x
    CMD a
    ENTRYPOINT a
    SHELL ["a"]
    STOPSIGNAL 9
    HEALTHCHECK CMD a
    MAINTAINER a
    """
    refuse_unsupported(parse_dockerfile(text.encode(), "Dockerfile").stages[-1].instructions)
