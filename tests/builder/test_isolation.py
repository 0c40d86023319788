"""What a build in place leaves alone, and what it refuses; where it runs, real containers tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kaniko_core.builder import isolation
from kaniko_core.builder.isolation import open_trees, protected_paths
from kaniko_core.builder.overlays import OverlayTrees
from kaniko_core.builder.planner import make_plan
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.dockerfile.instructions import Run
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import KanikoError
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    Isolation,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.options.mirrors import ClientCertificate
from kaniko_core.progress import silent
from kaniko_core.values import Secret


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


def protected(
    build: BuildOptions,
    output: OutputOptions | None = None,
    cache: CacheOptions | None = None,
    registry: RegistryOptions | None = None,
) -> list[Path]:
    return protected_paths(
        build,
        output or OutputOptions(),
        cache or CacheOptions(cache_dir=Path("/nowhere")),
        registry or RegistryOptions(),
    )


# --- what is left alone ----------------------------------------------------------------------


def test_every_path_that_options_name_is_left_alone(tmp_path: Path) -> None:
    for name in ("context", "cache", "other", "layout"):
        (tmp_path / name).mkdir()
    for name in ("ca.crt", "own.crt", "own.key", "secret"):
        (tmp_path / name).touch()
    own = ClientCertificate("r.example", str(tmp_path / "own.crt"), str(tmp_path / "own.key"))
    found = protected(
        BuildOptions(
            context=str(tmp_path / "context"),
            cache=True,
            secret=(Secret("s", path=tmp_path / "secret"),),
            build_context=(
                ("other", str(tmp_path / "other")),
                ("base", f"oci-layout://{tmp_path / 'layout'}:v1"),
            ),
        ),
        OutputOptions(tar_path=tmp_path / "image.tar", digest_file=tmp_path / "digest"),
        CacheOptions(cache_dir=tmp_path / "cache"),
        RegistryOptions(
            registry_certificate=(("registry.example", str(tmp_path / "ca.crt")),),
            registry_client_cert=(own,),
        ),
    )

    names = {str(path.relative_to(tmp_path)) for path in found if path.is_relative_to(tmp_path)}
    assert names == {
        *("context", "cache", "other", "layout", "ca.crt", "secret", "image.tar", "digest"),
        *("own.crt", "own.key"),
    }


@pytest.mark.parametrize(
    ("variable", "value", "file"),
    [
        ("DOCKER_CONFIG", "credentials", "credentials/config.json"),
        ("REGISTRY_AUTH_FILE", "auth.json", "auth.json"),
        ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
        ("HOME", "home", "home/.docker/config.json"),
    ],
)
def test_credentials_are_left_alone_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, file: str
) -> None:
    """They are read when layers are pushed, which is while the build is in place."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    monkeypatch.setenv(variable, str(tmp_path / value))

    assert tmp_path / file in protected(BuildOptions())


def test_remote_contexts_are_no_paths() -> None:
    build = BuildOptions(
        context="https://example.com/x.tar.gz",
        build_context=(("a", "docker-image://debian"), ("b", "https://example.com/b.git")),
    )
    assert not [path for path in protected(build) if "example.com" in str(path)]


def test_links_on_the_way_are_left_alone_too(tmp_path: Path) -> None:
    """Else nobody would get to what they lead to."""
    (tmp_path / "real/deep/context").mkdir(parents=True)
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to("real/deep")
    (tmp_path / "loop").symlink_to("loop")
    found = isolation._relative([tmp_path / "one/context", tmp_path / "loop/x", Path("/")])

    names = {Path("/", name.decode()) for name in found}
    expected = {tmp_path / name for name in ("one", "two", "real/deep/context", "loop")}
    assert expected <= names
    assert Path("/") not in names


# --- what is chosen, and refused -------------------------------------------------------------


def outcome(
    tmp_path: Path, text: str, build: BuildOptions, protected: Sequence[Path] = ()
) -> object:
    plan = make_plan(parse_dockerfile(text.encode(), "Dockerfile"), build_args={})
    with (
        open_workspace(tmp_path, None, silent) as workspace,
        open_trees(build, plan, workspace, protected) as trees,
    ):
        return type(trees)


def test_nothing_is_tried_where_nothing_is_built(tmp_path: Path) -> None:
    text = "FROM scratch\nLABEL a=b\n"
    assert outcome(tmp_path, text, BuildOptions()) is OverlayTrees


def test_machine_is_refused_before_anything_happens(tmp_path: Path) -> None:
    """Whatever looks like a container: this interpreter is not carried."""
    text = "FROM debian\nRUN true\n"
    for force in (False, True):
        build = BuildOptions(isolation=Isolation.IN_PLACE, force=force)
        with pytest.raises(KanikoError, match="in-place mode clears /"):
            outcome(tmp_path, text, build)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--network=none", "--security=insecure"])
def test_what_takes_a_sandbox_is_refused(flag: str) -> None:
    dockerfile = parse_dockerfile(f"FROM debian\nRUN {flag} true\n".encode(), "Dockerfile")
    (run,) = make_plan(dockerfile, build_args={}).stages[0].instructions
    assert isinstance(run, Run)
    with pytest.raises(KanikoError, match=f"{flag} needs a sandbox"):
        isolation._refuse_impossible(run)


def test_root_cannot_be_the_context() -> None:
    """It would be emptied, and what is copied would be the image's own files."""
    with pytest.raises(KanikoError, match="named as the build context"):
        isolation._refuse_root([Path("/usr"), Path("/usr/..")])
    isolation._refuse_root([Path("/usr")])
