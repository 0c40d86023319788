"""What ``--dryrun`` says of a plan: the same for the same plan, to the letter.

To renew a golden file after a change that is meant: delete it, run this test twice, and read
the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kaniko_core.builder.dryrun import FoundImage, dryrun, output_text, plan_text
from kaniko_core.builder.plan import ImageBase, LayoutBase
from kaniko_core.builder.planner import make_plan
from kaniko_core.context.named import NamedContexts
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import compose
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import ImageConfig, RuntimeConfig
from kaniko_core.options import BuildOptions, Destination, OutputOptions
from kaniko_core.options.exports import Export
from kaniko_core.progress import Event, Warned
from tests.samples import layer

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
AMD64 = Platform("linux", "amd64")
NOWHERE = OutputOptions(no_push=True)


class Everything(dict[ImageBase | LayoutBase, FoundImage]):
    """Knows every image; those of golang and busybox are in the cache."""

    def __missing__(self, wanted: ImageBase | LayoutBase) -> FoundImage:
        cached = wanted.name.startswith(("golang", "busybox"))
        return FoundImage(Digest.of(wanted.name.encode()), cached)


def text_of(
    dockerfile: str,
    output: OutputOptions = NOWHERE,
    *,
    contexts: Mapping[str, str] | None = None,
    triggers: Mapping[str, tuple[str, ...]] | None = None,
    target: str = "",
) -> str:
    parsed = parse_dockerfile(dockerfile.encode(), "Dockerfile")
    plan = make_plan(
        parsed,
        targets=(target,),
        build_platform=AMD64,
        target_platform=AMD64,
        contexts=NamedContexts.parse((contexts or {}).items()),
        triggers=lambda base: (triggers or {}).get(base.name, ()),
    )
    return f"{plan_text(parsed, plan, Everything())}\n{output_text(output)}"


def test_plan_is_as_in_the_golden_file() -> None:
    output = OutputOptions(
        destination=(Destination.parse("registry.example.com/app"), Destination.parse("app:2")),
        tar_path=Path("out/image.tar"),
        oci_layout_path=Path("out/layout"),
        digest_file=Path("out/digest"),
    )
    text = text_of(
        (GOLDEN / "stages.Dockerfile").read_text(),
        output,
        contexts={
            "docs": "../docs",
            "images": "oci-layout://images:v1",
            "tools::linux/arm64": "docker-image://never",
        },
        triggers={"golang:1.22": ("ENV A=b", "COPY . /go")},
    )
    golden = GOLDEN / "stages.txt"
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"{golden} was not there; it is now: read it")
    assert text == golden.read_text()


def test_stage_that_a_context_stands_for_runs_none_of_its_instructions() -> None:
    text = text_of(
        "FROM alpine AS base\nRUN a\nFROM base\nRUN b", contexts={"base": "https://x.org/a.git"}
    )
    assert "from context base: git repository https://x.org/a.git in its place" in text
    assert "RUN a" not in text
    assert "RUN b" in text


def test_context_may_be_an_image_or_nothing_at_all() -> None:
    text = text_of("FROM a", contexts={"a": "docker-image://debian:12"})
    assert "from image docker.io/library/debian:12@sha256:" in text
    assert "from scratch" in text_of("FROM a", contexts={"a": "docker-image://scratch"})
    assert "from context a: https://x.org/a.tar" in text_of(
        "FROM a", contexts={"a": "https://x.org/a.tar"}
    )


def test_platform_of_each_image_is_told() -> None:
    text = text_of("FROM --platform=linux/arm64 debian")
    assert ", linux/arm64, to be fetched" in text
    assert text.startswith("Dockerfile: stage stage-0 for linux/arm64\n")


def test_target_decides_what_is_skipped() -> None:
    text = text_of("FROM scratch AS a\nFROM scratch AS b\nFROM scratch AS c", target="b")
    assert "build stage b (line 2)" in text
    assert text.count("build stage") == 1
    assert "skip stage a (line 1)\nskip stage c (line 3)\n" in text


def test_image_that_goes_nowhere() -> None:
    for output in (OutputOptions(), NOWHERE):
        assert text_of("FROM scratch", output).endswith("\n\npush nowhere\n")


def test_files_of_the_image_are_told_of() -> None:
    given = ("out", "type=tar,dest=files.tar", "-")
    output = OutputOptions(
        output=tuple(map(Export.parse, given)), no_push=True, builder_output=Path("told")
    )
    assert text_of("FROM scratch", output).endswith(
        "\n\nwrite the files of the image into out\n"
        "write files.tar, a tar of the files of the image\n"
        "write the files of the image to standard output, as a tar\n"
        "push nowhere\n"
    )


def test_destination_names_a_tarball_that_is_not_pushed() -> None:
    output = OutputOptions(
        destination=(Destination.parse("app"),), no_push=True, tar_path=Path("a.tar")
    )
    assert text_of("FROM scratch", output).endswith(
        "\n\nwrite a.tar, a docker-save tarball as docker.io/library/app:latest\npush nowhere\n"
    )


def test_dryrun_looks_base_images_up(tmp_path: Path) -> None:
    """Their triggers are part of the plan; warnings come as they would from the build."""
    config = ImageConfig(AMD64, config=RuntimeConfig(on_build=("RUN triggered",)))
    base = compose(config, (layer({"a": b"b"}),), docker=False)
    LayoutStore(tmp_path / "layout").put(None, base)
    (tmp_path / "Dockerfile").write_text("FROM base\nMAINTAINER me\n")
    options = BuildOptions(
        context=str(tmp_path),
        custom_platform=(AMD64,),
        build_context=(("base", f"oci-layout://{tmp_path}/layout"),),
    )
    events: list[Event] = []
    text = dryrun(options, NOWHERE, progress=events.append)
    assert f"from image {base.digest}, linux/amd64, in OCI layout {tmp_path}/layout\n" in text
    assert "  1  to do   RUN triggered  (ONBUILD of the base)\n" in text
    assert [e.message.split()[-1] for e in events if isinstance(e, Warned)] == [
        "(MaintainerDeprecated)"
    ]


def test_dryrun_fails_where_the_build_would(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("# check=error=true\nFROM scratch\nMAINTAINER me\n")
    with pytest.raises(DockerfileError, match="MaintainerDeprecated"):
        dryrun(BuildOptions(context=str(tmp_path)), NOWHERE)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nRUN --security=insecure true\n")
    with pytest.raises(DockerfileError, match="Dockerfile:2"):
        dryrun(BuildOptions(context=str(tmp_path)), NOWHERE)
