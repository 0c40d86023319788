"""Values that instructions hold: ports, signals, durations, modes, paths, patterns, mounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.dockerfile.durations import nanoseconds
from kaniko_core.dockerfile.modes import apply_mode
from kaniko_core.dockerfile.mounts import Mount, MountKind, parse_mount
from kaniko_core.dockerfile.paths import destination_path, workdir_path
from kaniko_core.dockerfile.ports import expose_ports
from kaniko_core.dockerfile.signals import signal_number
from kaniko_core.dockerfile.wildcards import has_wildcard, matches
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import KanikoError, UsageError
from tests.dockerfile import tables

# Longer than what Python converts to an int without being asked to.
ENDLESS = "9" * 5000


def test_ports_are_those_of_the_table() -> None:
    tables.check(
        "expose-ports.json", lambda c: list(expose_ports(c["spec"])), lambda out: out["ports"]
    )


def test_signals_are_those_of_the_table() -> None:
    tables.check("signals.json", lambda c: signal_number(c["sig"]), lambda out: out["n"])


def test_durations_are_those_of_the_table() -> None:
    tables.check("durations.json", lambda c: nanoseconds(c["d"]), lambda out: out["ns"])


def test_modes_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> str:
        return f"{apply_mode(case['mode'], case['perm'], case['dir']):04o}"

    tables.check("chmod-symbolic.json", ours, lambda out: out["result_octal"])


def test_working_directories_are_those_of_the_table() -> None:
    tables.check(
        "workdir.json", lambda c: workdir_path(c["cur"], c["wd"]), lambda out: out["result"]
    )


def test_destinations_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> str:
        return destination_path(case["parent"], case["path"], keep_slash=case["keep_slash"])

    tables.check("normpath.json", ours, lambda out: out["result"])


def test_wildcards_are_those_of_the_table() -> None:
    tables.check(
        "wildcards.json", lambda c: matches(c["pattern"], c["name"]), lambda out: out["match"]
    )


def test_mounts_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> dict[str, object]:
        env = dict(item.split("=", 1) for item in case["env"])
        mount = parse_mount(case["spec"], lambda word: Lexer().expand(word, env))
        return {
            "Type": mount.kind.value,
            "From": mount.from_,
            "Source": mount.source,
            "Target": mount.target,
            "ReadOnly": mount.read_only,
            "SizeLimit": mount.size,
            "CacheID": mount.id,
            "CacheSharing": mount.sharing.value if mount.sharing else "",
            "Required": mount.required,
            "Env": mount.env,
            "Mode": mount.mode,
            "UID": mount.uid,
            "GID": mount.gid,
        }

    tables.check("run-mounts.json", ours, lambda out: out["mount"])


def mount(text: str) -> Mount:
    return parse_mount(text, lambda word: word)


def test_size_of_a_tmpfs_is_in_bytes() -> None:
    assert mount("type=tmpfs,target=/x,size=64m").size == 64 << 20
    assert mount("type=tmpfs,target=/x,size=1.5 KiB").size == 1536
    assert [mount(f"type=tmpfs,size={size}").size for size in (".5kb", "5.", "7B", "8 ")] == [
        *(512, 5, 7, 8)
    ]
    for size in ("5ib", "5ki", "5kbi", "k", "5  m", "-5", "5e"):
        with pytest.raises(UsageError, match="is not a size"):
            mount(f"type=tmpfs,size={size}")


def test_a_quoted_field_may_hold_commas_and_quotes() -> None:
    assert mount('"target=/a,""b""",type=cache').target == '/a,"b"'


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("typ=bind", "type"),
        ("type=cash", "cache"),
        ("type=cache,sharing=private-ish", "private"),
        ("from=$STAGE", "FROM"),
        ("target", "key=value"),
        ('target="x"', "as a whole"),
        ("size=1m", "type=tmpfs"),
        ("type=tmpfs,size=much", "64m"),
    ],
)
def test_a_wrong_mount_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        mount(text)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "type=secret,id=a,source=b",
        "type=secret,id=a,ro=perhaps",
        "type=bind,mode=644",
        "type=tmpfs,uid=0",
        "type=bind,sharing=locked",
        "type=cache,env=A",
        f"type=cache,uid={ENDLESS}",
        f"type=tmpfs,size={ENDLESS}p",
    ],
)
def test_what_does_not_go_together_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        mount(text)


def test_a_socket_is_read_only_unless_it_is_said() -> None:
    assert mount("type=ssh").kind is MountKind.SSH
    assert mount("type=ssh").read_only
    assert not mount("type=ssh,rw").read_only


def test_octal_modes_replace_and_symbolic_ones_change() -> None:
    assert apply_mode("0640", 0o755, False) == 0o640
    assert apply_mode("g=u,o-rwx", 0o741, False) == 0o770
    assert apply_mode("+x", 0o644, False) == 0o755
    assert apply_mode("a+X", 0o644, False) == 0o644
    assert apply_mode("a+X", 0o644, True) == 0o755


def test_a_mode_that_is_none_says_what_one_looks_like() -> None:
    for spec in ("", "rwx", "u+rwz", "10000", "0888", "u+r,"):
        with pytest.raises(UsageError, match="is not a mode") as caught:
            apply_mode(spec, 0o644, False)
        assert "u=rwX" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "mode", "after"),
    [
        ("u+t", 0o644, 0o1644),
        ("g=u", 0o2741, 0o2771),
        ("g=ru", 0o741, 0o771),
        ("g=ur", 0o741, 0o741),
        ("a-x,+X", 0o755, 0o755),
        ("-X", 0o755, 0o755),
        ("=X", 0o4755, 0o111),
        ("u-s,g+s", 0o4711, 0o2711),
        ("+rt", 0o600, 0o1600),
        ("a+rt", 0o600, 0o1644),
        ("o=u-w", 0o770, 0o775),
        ("uo-u", 0o757, 0o050),
        ("u=rw+x", 0o000, 0o700),
    ],
)
def test_symbolic_modes_have_the_rules_of_freebsd(spec: str, mode: int, after: int) -> None:
    assert apply_mode(spec, mode, False) == after


def test_addresses_and_ports_of_the_host_are_checked_and_dropped() -> None:
    assert expose_ports("[::1]:8000-8001:80-81") == ("80/tcp", "81/tcp")
    assert expose_ports("8000-8010:80/UDP") == ("80/udp",)
    assert expose_ports(":0080") == ("80/tcp",)
    for spec in (
        "x:80:80",
        "1.2.3:80:80",
        "fe80::1%eth0:80:80",
        "x:80",
        "1-2:80-82",
        "80:",
        "[::1:1:1",
    ):
        with pytest.raises(UsageError, match="is not a port"):
            expose_ports(spec)


def test_names_of_signals_are_those_of_linux() -> None:
    assert [signal_number(name) for name in ("iot", "SIGPOLL", "WINCH", "sigsys")] == [
        6,
        29,
        28,
        31,
    ]
    assert [signal_number(name) for name in ("RTMIN+15", "rtmax-14", "+09")] == [49, 50, 9]
    assert signal_number("9223372036854775807") == 2**63 - 1
    for name in ("RTMIN+16", "RTMIN+0", "RTMIN+01", "RTMAX-15", "SIGSIGKILL", "9" * 19, "EXIT"):
        with pytest.raises(UsageError, match="is not a signal"):
            signal_number(name)


def test_durations_end_where_64_bits_do() -> None:
    assert nanoseconds("-9223372036854775808ns") == -(2**63)
    assert nanoseconds("9223372036854775807.9ns") == 2**63 - 1
    assert nanoseconds("1.9999999999s") == 1_999_999_999
    with pytest.raises(UsageError, match="is not a duration"):
        nanoseconds("9223372036854775807ns1ns")


def test_destinations_keep_what_says_directory() -> None:
    assert destination_path("/w", "x/.") == "/w/x/."
    assert destination_path("/", ".") == "/"
    assert destination_path("/w", ".", keep_slash=False) == "/w"
    assert workdir_path("/a//b", "") == "/a//b"


def test_a_plain_name_is_no_pattern() -> None:
    assert not any(map(has_wildcard, ("src/main.py", "a\\*b", "a\\", "a]")))
    assert all(map(has_wildcard, ("*.py", "a?", "[ab]", "\\\\*", "\\*?")))


def test_a_wildcard_stops_at_a_slash() -> None:
    assert matches("*.py", "main.py")
    assert not matches("*.py", "src/main.py")
    assert matches("src/*/[!a]", "src/x/!")


def test_what_stands_behind_a_star_stays_where_it_is_found_first() -> None:
    """With Go a negated class may be a slash, which the star before it has gone past."""
    assert matches("*[^x]b", "a/b")
    assert not matches("*[^x]*b", "a/b")


def test_a_star_may_end_inside_a_character() -> None:
    assert matches("*??", "☺")
    assert not matches("??", "☺")


def test_a_class_that_is_none_is_refused_where_a_name_reaches_it() -> None:
    assert not matches("a*[", "b")
    assert not matches("a*b*[", "ac")
    with pytest.raises(UsageError):
        matches("a*[", "ab")


def test_a_range_that_runs_backwards_matches_nothing() -> None:
    assert not matches("[z-a]", "b")
    assert matches("[^z-a]", "b")
    assert matches("[z-ab]", "b")


PARSERS: dict[str, Callable[[str], object]] = {
    "ports": expose_ports,
    "signal": signal_number,
    "duration": nanoseconds,
    "mode": lambda text: apply_mode(text, 0o644, False),
    "mount": mount,
    "wildcard": lambda text: matches(text, "abc"),
}


@pytest.mark.parametrize("name", PARSERS)
@settings(deadline=None, max_examples=50)
@given(text=st.text() | st.text(st.sampled_from('09/-:.=,+smhgoaurwxXst[]^*?\\"é٣')))
def test_nothing_but_our_own_errors_is_raised(name: str, text: str) -> None:
    for candidate in (text, text + ENDLESS, ENDLESS + text):
        try:
            PARSERS[name](candidate)
        except KanikoError as error:
            assert str(error)


def test_a_path_with_a_zero_byte_is_refused() -> None:
    """The kernel would take what is before it for the whole."""
    for read in (workdir_path, destination_path):
        with pytest.raises(UsageError, match="has a zero byte"):
            read("/w", "a\0b")
