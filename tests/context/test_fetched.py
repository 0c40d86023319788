"""Contexts that were fetched: what is found in them, and what cannot lead out of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.context import DockerfileSource
from kaniko_core.context.fetched import ignore_files, open_fetched
from kaniko_core.errors import ContextError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "fetched"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM scratch\n")
    return made


def test_dockerfile_of_the_context_is_found_and_named_as_there(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "dockerfile").write_text("FROM lower\n")
    assert open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")[1] == (
        DockerfileSource("Dockerfile", b"FROM scratch\n")
    )
    context, source = open_fetched(root, "it", ignore_files("Dockerfile", "/sub/"), "Dockerfile")
    assert context.directory == root / "sub"
    assert source == DockerfileSource("dockerfile", b"FROM lower\n")


def test_patterns_of_the_dockerfile_come_first(root: Path) -> None:
    (root / ".dockerignore").write_text("all\n")
    context, _ = open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")
    assert context.ignore.ignored("all")
    (root / "Dockerfile.dockerignore").write_text("own\n")
    context, _ = open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")
    assert context.ignore.ignored("own")
    assert not context.ignore.ignored("all")


def test_patterns_beside_a_dockerfile_elsewhere_come_before_all(root: Path, tmp_path: Path) -> None:
    (root / ".dockerignore").write_text("all\n")
    outside = DockerfileSource(str(tmp_path / "Other"), b"FROM scratch\n")
    leaving = ignore_files("Other", outside=outside)
    assert open_fetched(root, "it", leaving, outside)[0].ignore.ignored("all")
    (tmp_path / "Other.dockerignore").write_text("own\n")
    context, source = open_fetched(root, "it", ignore_files("Other", outside=outside), outside)
    assert context.ignore.ignored("own")
    assert not context.ignore.ignored("all")
    assert source is outside


@pytest.mark.parametrize("named", ["-", "https://example.com/stdin"])
def test_nothing_is_beside_stdin_or_a_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stdin.dockerignore").write_text("a\n")
    assert ignore_files(named, outside=DockerfileSource("stdin", b"")).known is None


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "sub"])
@pytest.mark.parametrize("target", ["/etc", "../outside"])
def test_no_link_leads_out(root: Path, tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to(target)
    sub_path = "sub" if name == "sub" else ""
    with pytest.raises(ContextError, match=f"{name} of it leads out of the context"):
        open_fetched(root, "it", ignore_files("Dockerfile", sub_path), "Dockerfile")


def test_links_inside_are_followed(root: Path) -> None:
    (root / "Dockerfile").rename(root / "real")
    (root / "Dockerfile").symlink_to("real")
    _, source = open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")
    assert source.data == b"FROM scratch\n"


def test_missing_dockerfile_says_what_there_is(root: Path) -> None:
    (root / "Dockerfile").unlink()
    for name in ("b", "a"):
        (root / name).touch()
    with pytest.raises(ContextError, match="no Dockerfile Dockerfile in it") as caught:
        open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")
    assert caught.value.hint == "it has a, b; name the Dockerfile with --dockerfile"


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("sub", "sub of it is a directory", "--dockerfile=sub/Dockerfile"),
        ("no/file", "no Dockerfile no/file in it", "no such directory"),
        ("../outside/x", "leads out of it", "without .."),
        ("sub/../../outside/x", "leads out of it", "without .."),
        ("link/x", "link of it leads out", ""),
    ],
)
def test_dockerfile_that_is_none_tells_nothing_of_the_host(
    root: Path, tmp_path: Path, name: str, said: str, hint: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "xy").touch()
    (root / "sub").mkdir(exist_ok=True)
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ContextError, match=said) as caught:
        open_fetched(root, "it", ignore_files(name), name)
    assert hint in (caught.value.hint or "")
    assert "xy" not in f"{caught.value} {caught.value.hint}"


def test_dockerfile_one_level_down_is_pointed_to(root: Path) -> None:
    (root / "app-1.0").mkdir()
    (root / "Dockerfile").rename(root / "app-1.0" / "Dockerfile")
    with pytest.raises(ContextError) as caught:
        open_fetched(root, "it", ignore_files("Dockerfile"), "Dockerfile")
    assert "--context-sub-path=app-1.0" in (caught.value.hint or "")


def test_sub_path_has_to_be_there_and_inside(root: Path) -> None:
    with pytest.raises(ContextError, match="it has no directory no") as caught:
        open_fetched(root, "it", ignore_files("Dockerfile", "no"), "Dockerfile")
    assert "Dockerfile" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="does not stay"):
        ignore_files("Dockerfile", "../x")
