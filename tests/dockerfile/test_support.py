"""What is not built yet is refused, with its place; everything else passes."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.support import refuse_unsupported
from kaniko_core.errors import DockerfileError


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RUN --mount=type=cache,target=/x a", "RUN --mount"),
        ("RUN --network=none a", "RUN --network"),
        ("RUN --security=insecure a", "RUN --security"),
        ("RUN --device=x a", "RUN --device"),
        ("RUN <<E\na\nE", "a here-document in RUN"),
        ("COPY <<E /x\na\nE", "a here-document in COPY"),
        ("ADD <<E /x\na\nE", "a here-document in ADD"),
        ("COPY --parents a b", "COPY --parents"),
        ("COPY --exclude=a b c", "COPY --exclude"),
        ("ADD --exclude=a b c", "ADD --exclude"),
        ("ADD --checksum=sha256:0 a b", "ADD --checksum"),
        ("ADD --keep-git-dir=false a b", "ADD --keep-git-dir"),
        ("ADD --unpack a b", "ADD --unpack"),
        ("ADD a HTTPS://example.com/x b", "ADD of a URL"),
        ("ADD https://example.com/x.git b", "ADD of a git repository"),
        ("ADD https://example.com/x.git#main:dir b", "ADD of a git repository"),
        ("ADD git@example.com:x/y b", "ADD of a git repository"),
        ("ADD ssh://git@example.com/x b", "ADD of a git repository"),
        ("ONBUILD RUN a", "ONBUILD"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(text: str, what: str) -> None:
    dockerfile = parse_dockerfile(f"FROM a\nFROM b\n{text}\n".encode(), "Dockerfile")
    with pytest.raises(DockerfileError) as caught:
        refuse_unsupported(dockerfile)
    assert str(caught.value).startswith(f"Dockerfile:3: {what} is not supported yet\n")
    assert caught.value.hint


def test_what_is_supported_passes() -> None:
    text = """
    ARG A=1
    FROM --platform=linux/amd64 a AS b
    ARG A
    ENV B=$A
    RUN --network=default --security=sandbox a
    RUN ["a"]
    COPY --from=b --chown=a:b --chmod=u+x --link *.py /x/
    ADD --chmod=755 --link x.tar.gz https /x/
    ADD github.com/x ./git@x /y/
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
    refuse_unsupported(parse_dockerfile(text.encode(), "Dockerfile"))
