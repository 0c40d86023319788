from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaniko_core.builder.agents import Agents
from kaniko_core.builder.binds import Binds, copied_entries, fingerprint, is_plain
from kaniko_core.builder.caches import Caches
from kaniko_core.builder.mounts import NamedTree, Prepared, RunMounts
from kaniko_core.builder.overlays import OverlayTrees
from kaniko_core.builder.secrets import Secrets
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.workspace import Workspace, open_workspace
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.mounts import mount_origin, parse_mount
from kaniko_core.errors import KanikoError, UsageError
from kaniko_core.progress import silent
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.sandbox.runner import BindMount, FileMount, TmpfsMount

SELF = f"uid={os.geteuid()},gid={os.getegid()}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of root are needed")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path / "work", None, silent) as opened:
        yield opened


class Kitchen:
    """Prepares mounts from a context in ``context``; nothing is mounted."""

    def __init__(self, workspace: Workspace, directory: Path) -> None:
        self.workspace = workspace
        self.context = directory / "context"
        self.context.mkdir(mode=0o755)
        self.ignore: tuple[str, ...] = ()
        self.secrets: dict[str, bytes] = {}
        self.sockets: dict[str, Path] = {}
        self.namespace = ""

    def find(self, name: str) -> CopySource | NamedTree:
        return CopySource(
            Rootfs(self.context), f"the context {name}", IgnorePatterns(self.ignore), False
        )

    @contextmanager
    def prepared(self, *mounts: str, workdir: str = "/") -> Iterator[Prepared]:
        workspace = self.workspace
        caches = Caches(None, lambda: workspace.fresh("caches"), silent, lambda: False)
        given = RunMounts(
            workspace,
            trees := OverlayTrees(workspace),
            Binds(workspace, trees),
            caches,
            Secrets(self.secrets),
            Agents(self.sockets),
            self.namespace,
        )
        parsed = [parse_mount(text, lambda word: word) for text in mounts]
        with given.prepared(parsed, workdir, self.find) as done:
            yield done

    def one(self, mount: str, **how: str) -> object:
        with self.prepared(mount, **how) as done:
            (found,) = done.mounts
            return found


@pytest.fixture
def kitchen(workspace: Workspace, tmp_path: Path) -> Kitchen:
    return Kitchen(workspace, tmp_path)


# --- targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "workdir", "expected"),
    [
        ("/x", "/w", "/x"),
        ("x", "/w", "/w/x"),
        ("../x/./y/", "/w/d", "/w/x/y"),
        ("//x", "/", "/x"),
        ("/a/../../b", "/", "/b"),
    ],
)
def test_targets_are_below_the_working_directory(
    kitchen: Kitchen, target: str, workdir: str, expected: str
) -> None:
    mount = kitchen.one(f"type=tmpfs,target={target}", workdir=workdir)
    assert mount == TmpfsMount(expected)


@pytest.mark.parametrize("kind", ["bind", "cache", "tmpfs"])
@pytest.mark.parametrize("target", ["/", "//", "..", "/x/.."])
def test_root_directory_stays(kitchen: Kitchen, kind: str, target: str) -> None:
    with pytest.raises(UsageError, match="in the place of the root directory"):
        kitchen.one(f"type={kind},target={target}")


def test_mount_without_target_is_at_the_working_directory(kitchen: Kitchen) -> None:
    assert kitchen.one("type=tmpfs,size=1m", workdir="/w") == TmpfsMount("/w", 1 << 20)


def test_last_of_several_mounts_at_one_place_counts(kitchen: Kitchen) -> None:
    with kitchen.prepared(
        "type=tmpfs,target=/x", "type=tmpfs,target=/y", "type=tmpfs,target=/x/,size=7"
    ) as done:
        assert done.mounts == (TmpfsMount("/y"), TmpfsMount("/x", 7))


def test_tmpfs_may_be_read_only(kitchen: Kitchen) -> None:
    assert kitchen.one("type=tmpfs,target=/x,ro") == TmpfsMount("/x", read_only=True)


# --- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ("id=a", FileMount("/run/secrets/a", b"v", 0o400)),
        ("source=a", FileMount("/run/secrets/a", b"v", 0o400)),
        ("target=/etc/a", FileMount("/etc/a", b"v", 0o400)),
        ("id=a,target=x", FileMount("/w/x", b"v", 0o400)),
        ("id=a,mode=0440,uid=5,gid=6", FileMount("/run/secrets/a", b"v", 0o440, 5, 6)),
        ("id=dir/a", FileMount("/run/secrets/a", b"other", 0o400)),
    ],
)
def test_secret_is_a_file(kitchen: Kitchen, mount: str, expected: FileMount) -> None:
    kitchen.secrets = {"a": b"v", "dir/a": b"other"}
    assert kitchen.one(f"type=secret,{mount}", workdir="/w") == expected


def test_secret_is_a_variable_that_is_shown_nowhere(kitchen: Kitchen) -> None:
    kitchen.secrets = {"a": b"hunter2\xff"}
    with kitchen.prepared("type=secret,id=a,env=TOKEN") as done:
        assert done.mounts == ()
        assert done.secret_env == ("TOKEN=hunter2\udcff",)
        assert "hunter2" not in repr(done)


def test_secret_is_both_where_both_are_asked_for(kitchen: Kitchen) -> None:
    kitchen.secrets = {"a": b"v"}
    with kitchen.prepared("type=secret,id=a,env=T,target=/x") as done:
        assert done.mounts == (FileMount("/x", b"v"),)
        assert done.secret_env == ("T=v",)


def test_secret_that_is_missing_is_no_mount(kitchen: Kitchen) -> None:
    with kitchen.prepared("type=secret,id=a", "type=secret,id=a,env=T") as done:
        assert done == Prepared()


def test_secret_that_is_required_must_be_there(kitchen: Kitchen) -> None:
    with pytest.raises(UsageError, match="the secret a is required") as caught:
        kitchen.one("type=secret,id=a,required")
    assert "--secret id=a" in str(caught.value.hint)


def test_secret_with_a_zero_byte_is_no_variable(kitchen: Kitchen) -> None:
    kitchen.secrets = {"a": b"hun\0ter2"}
    with pytest.raises(KanikoError, match="cannot be the value of a variable") as caught:
        kitchen.one("type=secret,id=a,env=T")
    assert "hun" not in str(caught.value)


# --- agents ----------------------------------------------------------------------------------


def test_agents_get_sockets_of_their_own(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.sockets = {"default": tmp_path / "one", "b": tmp_path / "two"}
    with kitchen.prepared(
        f"type=ssh,{SELF}", f"type=ssh,id=b,mode=0660,{SELF}", f"type=ssh,id=b,target=/s,{SELF}"
    ) as done:
        targets = [mount.target for mount in done.mounts]
        assert targets == ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1", "/s"]
        assert done.agent == targets[0]
        for mount, mode in zip(done.mounts, (0o600, 0o660, 0o600), strict=True):
            assert isinstance(mount, BindMount)
            assert isinstance(mount.base, Path)
            status = (mount.base / mount.source).stat()
            assert status.st_mode & 0o777 == mode
        # By a short name: that of a socket may have 107 bytes.
        monkeypatch.chdir((mount.base / mount.source).parent)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(Path(mount.source).name)


def test_agent_that_is_missing_is_no_mount_and_takes_its_number(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    kitchen.sockets = {"b": tmp_path / "two"}
    with kitchen.prepared("type=ssh", f"type=ssh,id=b,{SELF}") as done:
        assert [mount.target for mount in done.mounts] == ["/run/buildkit/ssh_agent.1"]
        assert done.agent == "/run/buildkit/ssh_agent.0"


def test_agent_that_is_required_must_be_there(kitchen: Kitchen) -> None:
    with pytest.raises(UsageError, match="the SSH agent default is required") as caught:
        kitchen.one("type=ssh,required")
    assert "--ssh default=" in str(caught.value.hint)


# --- caches ----------------------------------------------------------------------------------


def cache(kitchen: Kitchen, options: str, **how: str) -> Path:
    mount = kitchen.one(f"type=cache,{options},{SELF}", **how)
    assert isinstance(mount, BindMount)
    assert isinstance(mount.base, Path)
    assert mount.source == "/"
    return mount.base


def name(kitchen: Kitchen, options: str, **how: str) -> str:
    return cache(kitchen, options, **how).parent.name


def test_cache_is_known_by_its_target_or_id(kitchen: Kitchen) -> None:
    known = name(kitchen, "target=/c")
    assert name(kitchen, "target=/c/.") == known
    assert name(kitchen, "target=/other,id=/c") == known
    assert name(kitchen, "target=/other") != known
    # BuildKit takes a relative target as it is written, whatever WORKDIR is.
    assert name(kitchen, "target=c", workdir="/w") == name(kitchen, "target=c", workdir="/v")


def test_namespace_keeps_caches_apart(kitchen: Kitchen) -> None:
    known = name(kitchen, "target=/c")
    kitchen.namespace = "other"
    assert name(kitchen, "target=/c") != known


def test_cache_is_written_to_unless_it_is_read_only(kitchen: Kitchen) -> None:
    with kitchen.prepared(
        f"type=cache,target=/a,{SELF}", f"type=cache,target=/b,ro,{SELF}"
    ) as done:
        assert [m.writable for m in done.mounts if isinstance(m, BindMount)] == [True, False]


def test_new_cache_that_is_to_show_a_part_of_itself_is_refused(kitchen: Kitchen) -> None:
    with pytest.raises(UsageError, match="a new cache is empty"):
        cache(kitchen, "target=/c,source=/sub")


def test_cache_cannot_begin_with_a_file(kitchen: Kitchen) -> None:
    (kitchen.context / "f").touch()
    with pytest.raises(KanikoError, match='"f" in the context x is a file, and a cache is'):
        cache(kitchen, "target=/c,from=x,source=f")


# --- the context -----------------------------------------------------------------------------


def entries(kitchen: Kitchen, source: str = "") -> list[str]:
    origin = kitchen.find("")
    assert isinstance(origin, CopySource)
    found = copied_entries(origin, origin.named(source))
    assert {(entry.uid, entry.gid) for entry in found} <= {(0, 0)}
    return [entry.name.decode() for entry in found]


def test_copy_of_the_context_has_what_copy_would_copy(kitchen: Kitchen) -> None:
    for path in ("a", "d/kept", "d/gone", "e/f"):
        (kitchen.context / path).parent.mkdir(exist_ok=True)
        (kitchen.context / path).write_text(path)
    kitchen.ignore = ("d", "!d/kept", "a")
    assert entries(kitchen) == ["d", "d/kept", "e", "e/f"]
    assert entries(kitchen, "/d/") == ["kept"]
    assert entries(kitchen, "e/f") == ["f"]
    with pytest.raises(KanikoError, match="excluded from the context"):
        entries(kitchen, "a")


def test_wildcards_are_plain_characters_in_a_source(kitchen: Kitchen) -> None:
    (kitchen.context / "[a]*").mkdir()
    (kitchen.context / "[a]*/x").touch()
    assert entries(kitchen, "[a]*") == ["x"]


def test_source_stays_inside(kitchen: Kitchen) -> None:
    (kitchen.context / "link").symlink_to("../../../etc")
    (kitchen.context / "etc").mkdir()
    (kitchen.context / "etc/mine").touch()
    assert entries(kitchen, "link") == ["mine"]
    assert entries(kitchen, "../../etc") == ["mine"]


def test_source_that_is_missing_is_one_sentence(kitchen: Kitchen) -> None:
    (kitchen.context / "there").touch()
    with pytest.raises(KanikoError, match='source "ther" does not exist in the context') as caught:
        kitchen.one("target=/x,source=ther")
    assert caught.value.hint == "did you mean there?"


@needs_root
def test_context_that_is_as_it_should_be_is_shown_itself(kitchen: Kitchen) -> None:
    (kitchen.context / "d").mkdir()
    (kitchen.context / "d/f").touch()
    assert kitchen.one("target=/x") == BindMount("/x", kitchen.context)
    assert kitchen.one("target=/x,source=d") == BindMount("/x", kitchen.context / "d")
    assert kitchen.one("target=/x,source=d/f") == BindMount("/x", kitchen.context / "d", "f")


@needs_root
def test_context_with_anything_else_is_not_shown_itself(kitchen: Kitchen) -> None:
    origin = kitchen.find("")
    assert isinstance(origin, CopySource)
    (kitchen.context / "d").mkdir()
    (kitchen.context / "d/f").touch()
    assert is_plain(origin, origin.named(""))
    os.chown(kitchen.context / "d/f", 1, 0)
    assert not is_plain(origin, origin.named(""))
    assert not is_plain(origin, origin.named("d/f"))
    os.chown(kitchen.context / "d/f", 0, 0)
    kitchen.context.chmod(0o700)
    assert not is_plain(origin, origin.named(""))
    assert is_plain(origin, origin.named("d"))
    kitchen.context.chmod(0o755)
    kitchen.ignore = ("d/f",)
    ignoring = kitchen.find("")
    assert isinstance(ignoring, CopySource)
    assert not is_plain(ignoring, ignoring.named(""))


# --- fingerprints ----------------------------------------------------------------------------


def test_fingerprint_changes_with_content_and_not_with_time(kitchen: Kitchen) -> None:
    origin = kitchen.find("")
    assert isinstance(origin, CopySource)
    file = kitchen.context / "f"

    def now() -> str:
        return fingerprint(copied_entries(origin, origin.named("")))

    file.write_text("one")
    first = now()
    os.utime(file, (1, 1))
    assert now() == first
    file.write_text("two")
    second = now()
    file.chmod(0o755)
    assert len({first, second, now()}) == 3


# --- origins ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/x", None),
        ("from=Base,target=/x", "Base"),
        ("type=bind,target=/x,FROM=a:1", "a:1"),
        ('target=/x,"from=a,b"', "a,b"),
        ("from=a,from=b", "b"),
        ("from=,target=/x", None),
        ("from=a,type=cache", "a"),
        ("from=a,type=$KIND", "a"),
        ("type=tmpfs,from=a", None),
        ("from=a,type=SECRET", None),
        ("type=ssh,from=a", None),
    ],
)
def test_origin_of_a_mount_is_known_before_it_is_expanded(text: str, expected: str | None) -> None:
    assert mount_origin(text) == expected


@pytest.mark.parametrize("kind", ["bind", "cache", "tmpfs", "secret,id=s", "ssh"])
def test_target_with_a_zero_byte_is_refused(kitchen: Kitchen, kind: str) -> None:
    kitchen.secrets = {"s": b"value"}
    with pytest.raises(UsageError, match="has a zero byte"):
        kitchen.one(f"type={kind},target=/a\0b")


def test_secret_is_no_variable_with_a_zero_byte_in_its_name(kitchen: Kitchen) -> None:
    kitchen.secrets = {"s": b"value"}
    with pytest.raises(KanikoError, match="cannot be the value of a variable"):
        kitchen.one("type=secret,id=s,env=A\0B")
