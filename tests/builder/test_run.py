from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.builder.agents import Agents
from kaniko_core.builder.configure import StageState, start_stage
from kaniko_core.builder.overlays import OverlayTrees
from kaniko_core.builder.plan import Plan, Scratch, StagePlan
from kaniko_core.builder.run import (
    Commands,
    commands_of,
    parsed_mounts,
    process_of,
    refuse_forbidden,
)
from kaniko_core.builder.secrets import Secrets
from kaniko_core.builder.workspace import Workspace, open_workspace
from kaniko_core.dockerfile.instructions import Command, From, Run
from kaniko_core.dockerfile.mounts import MountKind
from kaniko_core.dockerfile.scope import Scope
from kaniko_core.dockerfile.stages import Stage
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.oci.spec import ImageConfig, RuntimeConfig
from kaniko_core.options import BuildOptions
from kaniko_core.progress import silent
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.runner import Process
from kaniko_core.values import Entitlement
from tests.builder.copying import AMD64, source

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Rootfs]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\napp:x:5:6::/home/app:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text("extra:x:70:app\n")
    with Rootfs(tmp_path) as tree:
        yield tree


def shell(text: str) -> Run:
    return Run(source(f"RUN {text}"), Command((text,), shell=True))


def stage(scope: Scope | None = None, **runtime: object) -> StageState:
    config = ImageConfig(AMD64, RuntimeConfig(**runtime))  # type: ignore[arg-type]
    return start_stage(config, scope or Scope())


def environment(process: Process) -> dict[str, str]:
    return dict(item.split("=", 1) for item in process.env)


def test_shell_form_goes_to_the_shell(root: Rootfs) -> None:
    process = process_of(shell("echo $A && ls"), stage(), root)
    assert process.argv == ("/bin/sh", "-c", "echo $A && ls")


def test_shell_of_the_stage_is_used(root: Rootfs) -> None:
    process = process_of(shell("x"), stage(shell=("/bin/bash", "-euo", "pipefail", "-c")), root)
    assert process.argv == ("/bin/bash", "-euo", "pipefail", "-c", "x")


def test_exec_form_is_left_alone(root: Rootfs) -> None:
    run = Run(source("RUN"), Command(("ls", "$HOME"), shell=False))
    assert process_of(run, stage(), root).argv == ("ls", "$HOME")


def test_exec_form_without_words_is_refused(root: Rootfs) -> None:
    with pytest.raises(DockerfileError, match="nothing to run"):
        process_of(Run(source("RUN []"), Command((), shell=False)), stage(), root)


def test_path_and_home_are_there_always(root: Rootfs) -> None:
    assert environment(process_of(shell("x"), stage(), root)) == {
        "PATH": DEFAULT_PATH,
        "HOME": "/root",
    }


def test_images_own_path_and_home_count(root: Rootfs) -> None:
    process = process_of(shell("x"), stage(env=("PATH=/p", "HOME=/h", "A=1")), root)
    assert environment(process) == {"PATH": "/p", "HOME": "/h", "A": "1"}
    assert len(process.env) == 3


def test_arguments_and_proxies_reach_the_command(root: Rootfs) -> None:
    scope = Scope(proxies={"HTTP_PROXY": "http://proxy"})
    state = stage(scope, env=("BOTH=env",))
    state = replace(
        state, scope=state.scope.with_argument("BOTH", "arg").with_argument("ARG", "arg")
    )
    variables = environment(process_of(shell("x"), state, root))
    assert variables["BOTH"] == "arg"
    assert variables["ARG"] == "arg"
    assert variables["HTTP_PROXY"] == "http://proxy"


@pytest.mark.parametrize(
    ("user", "ids", "home"),
    [
        ("", (0, 0, (0,)), "/root"),
        ("app", (5, 6, (6, 70)), "/home/app"),
        ("app:0", (5, 0, (0,)), "/home/app"),
        ("4000", (4000, 0, (0,)), "/"),
    ],
)
def test_user_is_the_images(
    root: Rootfs, user: str, ids: tuple[int, int, tuple[int, ...]], home: str
) -> None:
    process = process_of(shell("x"), stage(user=user), root)
    assert (process.uid, process.gid, process.groups) == ids
    assert environment(process)["HOME"] == home


def test_unknown_user_is_located(root: Rootfs) -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:3: no user ghost in the image's"):
        process_of(shell("x"), stage(user="ghost"), root)


@pytest.mark.parametrize(
    ("workdir", "cwd"), [("", "/"), ("/a/b/", "/a/b"), ("/a//b/../c", "/a/c"), ("a", "/a")]
)
def test_command_starts_in_workdir(root: Rootfs, workdir: str, cwd: str) -> None:
    assert process_of(shell("x"), stage(working_dir=workdir), root).cwd == cwd


def test_network_can_be_switched_off(root: Rootfs) -> None:
    assert process_of(shell("x"), stage(), root).network
    assert not process_of(replace(shell("x"), network="none"), stage(), root).network


def test_host_name_and_rights_are_asked_for(root: Rootfs) -> None:
    plain = process_of(shell("x"), stage(), root)
    assert (plain.hostname, plain.privileged) == ("kaniko", False)
    process = process_of(replace(shell("x"), security="insecure"), stage(), root, hostname="box")
    assert (process.hostname, process.privileged) == ("box", True)


def planned(*runs: Run) -> Plan:
    start = From(source("FROM x"), "x")
    built = StagePlan(Stage(0, start, runs), Scratch(), AMD64)
    return Plan({0: built}, (0,), Scope())


def test_rights_must_be_allowed() -> None:
    insecure = replace(shell("x"), security="insecure")
    refuse_forbidden(planned(insecure), (Entitlement.INSECURE,))
    refuse_forbidden(planned(replace(shell("x"), security="sandbox", network="host")), ())
    with pytest.raises(DockerfileError, match="Dockerfile:3: RUN --security=insecure is not"):
        refuse_forbidden(planned(shell("y"), insecure), (Entitlement.HOST_NETWORK,))


def test_mounts_are_expanded_by_the_variables_in_force() -> None:
    state = stage(env=("DIR=d",))
    run = replace(shell("x"), mounts=("target=/x/$DIR,source=${DIR:-e}", "type=tmpfs,target=/t"))
    first, second = parsed_mounts(run, state)
    assert (first.target, first.source, second.kind) == ("/x/d", "d", MountKind.TMPFS)


@pytest.mark.parametrize("name", ["a b", "-x", "a\nb", "x" * 65, "ä"])
def test_host_name_must_be_one(tmp_path: Path, name: str) -> None:
    options = BuildOptions(build_arg=(("BUILDKIT_SANDBOX_HOSTNAME", name),))
    with (
        open_workspace(tmp_path, None, silent) as workspace,
        pytest.raises(UsageError, match="is no host name"),
    ):
        _commands(options, workspace)


def test_host_name_and_rights_come_from_the_options(tmp_path: Path) -> None:
    options = BuildOptions(
        build_arg=(("BUILDKIT_SANDBOX_HOSTNAME", "box"), ("BUILDKIT_CACHE_MOUNT_NS", "ns")),
        allow=(Entitlement.INSECURE,),
    )
    with open_workspace(tmp_path, None, silent) as workspace:
        commands = _commands(options, workspace)
        assert commands.hostname == "box"
        assert commands.mounts.namespace == "ns"
        assert commands.allow == (Entitlement.INSECURE,)


def _commands(options: BuildOptions, workspace: Workspace) -> Commands:
    return commands_of(
        options,
        workspace,
        OverlayTrees(workspace),
        secrets=Secrets(),
        agents=Agents(),
        shared=None,
    )
