from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.errors import KanikoError
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts, Group, Identity, User

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:An app:/home/app:/bin/sh
twin:x:1000:1002::/home/twin:/bin/sh
123:x:77:78::/srv:/bin/sh
homeless:x:9:9:::
"""
GROUP = """\
root:x:0:
users:x:100:app,twin
audio:x:29:app
docker:x:998:app
app:x:1001:
"""


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return read(tmp_path, PASSWD, GROUP)


def read(root: Path, passwd: str | None, group: str | None) -> Accounts:
    (root / "etc").mkdir(exist_ok=True)
    for name, text in (("passwd", passwd), ("group", group)):
        if text is not None:
            (root / "etc" / name).write_text(text)
    with Rootfs(root) as tree:
        return Accounts.of(tree)


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ("", Identity(0, 0, (0,), "/root")),
        ("root", Identity(0, 0, (0,), "/root")),
        ("app", Identity(1000, 1001, (1001, 100, 29, 998), "/home/app")),
        # The first line that has the number counts, and brings its name's groups along.
        ("1000", Identity(1000, 1001, (1001, 100, 29, 998), "/home/app")),
        ("twin", Identity(1000, 1002, (1002, 100), "/home/twin")),
        ("123", Identity(77, 78, (78,), "/srv")),
        ("4242", Identity(4242, 0, (0,), "/")),
        ("app:audio", Identity(1000, 29, (29,), "/home/app")),
        ("app:4711", Identity(1000, 4711, (4711,), "/home/app")),
        ("4242:users", Identity(4242, 100, (100,), "/")),
        ("1000:0", Identity(1000, 0, (0,), "/home/app")),
        (":audio", Identity(0, 29, (29,), "/root")),
        ("homeless", Identity(9, 9, (9,), "/")),
    ],
)
def test_user_runs_as(accounts: Accounts, spec: str, identity: Identity) -> None:
    assert accounts.identity(spec) == identity


@pytest.mark.parametrize(
    ("spec", "owner"),
    [
        ("app", (1000, 1001)),
        ("app:audio", (1000, 29)),
        ("app:5", (1000, 5)),
        ("55", (55, 55)),
        ("55:66", (55, 66)),
        ("1000", (1000, 1000)),
        ("root", (0, 0)),
        ("root:users", (0, 100)),
        (":users", (0, 100)),
        ("app:", (1000, 1001)),
    ],
)
def test_chown_gives_to(accounts: Accounts, spec: str, owner: tuple[int, int]) -> None:
    assert accounts.owner(spec) == owner


@pytest.mark.parametrize("spec", ["nobody", "nobody:0", "4294967295", "-1"])
def test_unknown_user_is_named(accounts: Accounts, spec: str) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(KanikoError, match=f"no user {name} in the image's /etc/passwd"):
        accounts.identity(spec)
    with pytest.raises(KanikoError, match=f"no user {name} in the image's /etc/passwd"):
        accounts.owner(spec)


def test_unknown_group_is_named(accounts: Accounts) -> None:
    with pytest.raises(KanikoError, match="no group staff in the image's /etc/group"):
        accounts.identity("app:staff")
    with pytest.raises(KanikoError, match="no group staff in the image's /etc/group"):
        accounts.owner("0:staff")


def test_image_without_accounts_knows_numbers_and_root(tmp_path: Path) -> None:
    accounts = read(tmp_path, None, None)
    assert accounts.identity("") == Identity(0, 0, (0,), "/root")
    assert accounts.identity("5:6") == Identity(5, 6, (6,), "/")
    assert accounts.owner("root:root") == (0, 0)


def test_malformed_lines_are_passed_over(tmp_path: Path) -> None:
    accounts = read(
        tmp_path,
        "\n#comment\n+::::::\nshort:x\nbad:x:one:2::/:\n\xff\xfe\nok:x:5:6\n",
        "broken\n:x:1:\nok:x:7:,a,,b\nneg:x:-3:\n",
    )
    assert accounts.users == (User("ok", 5, 6, ""),)
    assert accounts.groups == (Group("ok", 7, ("a", "b")),)


def test_passwd_is_looked_for_inside_the_image(tmp_path: Path) -> None:
    """A link to /etc/passwd must not lead to the host's."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/usr/lib/passwd")
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/passwd").write_text("inside:x:3:4::/:\n")
    with Rootfs(tmp_path) as tree:
        assert [user.name for user in Accounts.of(tree).users] == ["inside"]


def test_passwd_that_is_no_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").mkdir(parents=True)
    with Rootfs(tmp_path) as tree:
        assert Accounts.of(tree) == Accounts()
