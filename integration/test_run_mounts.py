"""RUN with every flag: mounts, secrets, agents, networks, rights, here-documents."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, Programs, finished, said
from tests.contracts.commands import eventually

_SECRET = "correct horse battery"
_SECONDS = 60.0  # for what takes one on a machine that has nothing else to do


def made(image: str) -> set[str]:
    """Return the names in the layers that a RUN made: all but the base's."""
    return {name for layer in readers.layers(image)[1:] for name in layer.names}


@contextmanager
def running(programs: Programs, *flags: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start kaniko-executor; it is killed at the end if it runs still."""
    with programs.start_executor(*flags) as process:
        try:
            yield process
        finally:
            process.kill()


def _runs(programs: Programs, command: str) -> bool:
    return any(line.split(": ", 1)[1].startswith(command) for line in programs.processes(command))


def lines(done: Finished) -> list[str]:
    return [line.strip() for line in done.written.splitlines()]


# --- bind ------------------------------------------------------------------------------------


def test_context_is_shown_without_what_is_ignored_and_as_roots(build: Build, busybox: str) -> None:
    build.fill({"a": "one", "b/kept": "two", "b/gone": "three", "b/secret": "four", "c": "five"})
    for path in build.context.rglob("*"):
        os.chown(path, 1234, 99)
    build.context.chmod(0o700)
    done = build(
        f"""
        FROM {busybox}
        USER 1000
        RUN --mount=target=/src find /src | sort; stat -c '%u:%g %a %n' /src /src/a /src/b/kept; \\
            cat /src/b/kept; echo; touch /src/new || echo refused
        """,
        files={".dockerignore": "c\nb/*\n!b/kept\nDockerfile\n.dockerignore\n"},
    )

    said_lines = lines(done)
    found = [line for line in said_lines if line.startswith("/src")]
    assert found == ["/src", "/src/a", "/src/b", "/src/b/kept"]
    assert {"0:0 755 /src", "0:0 644 /src/a", "0:0 644 /src/b/kept"} <= set(said_lines)
    assert {"two", "refused"} <= set(said_lines)
    assert made(build.image) == set()
    assert build.programs.leftovers() == []


def test_context_that_is_roots_is_shown_itself(build: Build, busybox: str) -> None:
    build.context.chmod(0o755)
    done = build(
        f"""
        FROM {busybox}
        WORKDIR /w
        RUN --mount=target=.,source=d cat f && cat /w/f && test ! -e /w/Dockerfile
        RUN --mount=target=/copy,source=d/f cat /copy && ! touch /copy
        """,
        files={"d/f": "content\n"},
    )

    assert lines(done).count("content") == 3
    assert made(build.image) == {"w"}


@pytest.mark.parametrize("owner", [0, 1234], ids=["itself", "a copy"])
def test_what_is_written_to_a_bind_mount_is_thrown_away(
    build: Build, busybox: str, owner: int
) -> None:
    build.context.chmod(0o755)
    build.fill({"d/f": "old\n", "d/gone": ""})
    os.chown(build.context / "d/f", owner, owner)
    done = build(
        f"""
        FROM {busybox} AS tools
        RUN mkdir /t && echo tool > /t/tool
        FROM {busybox}
        RUN --mount=target=/src,rw --mount=from=tools,source=/t,target=/t,rw \\
            --mount=target=/one,source=d/f,rw \\
            echo new > /src/d/f && cat /src/d/f && rm /src/d/gone && touch /src/d/more && \\
            echo x > /t/tool && cat /t/tool && echo changed > /one && cat /one && ls /src /src/d
        RUN --mount=target=/src --mount=from=tools,source=/t,target=/t \\
            cat /src/d/f /t/tool && ls /src/d
        """,
    )

    said_lines = lines(done)
    assert said_lines.index("new") < said_lines.index("changed") < said_lines.index("old")
    assert said_lines.index("x") < said_lines.index("tool")
    assert said_lines.count("gone") == 1
    assert not {"proc", "dev"} & set(said_lines)
    assert (build.context / "d/f").read_text() == "old\n"
    assert sorted(path.name for path in (build.context / "d").iterdir()) == ["f", "gone"]
    assert made(build.image) == set()
    assert build.programs.leftovers() == []


def test_stages_and_images_are_shown_with_their_owners(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox} AS Tools
        RUN mkdir -p /opt/t && echo tool > /opt/t/tool && chown 7:8 /opt/t/tool && ln -s /opt /link
        FROM scratch AS empty
        FROM {busybox}
        RUN --mount=from=tools,source=/link/t,target=/t --mount=from={busybox},target=/image \\
            --mount=from=empty,target=/nothing --mount=from=0,target=/zero \\
            stat -c '%u:%g %n' /t/tool /zero/opt/t/tool && ls /image/bin/sh && ls -A /nothing && \\
            ! touch /t/x
        """
    )

    assert {"7:8 /t/tool", "7:8 /zero/opt/t/tool", "/image/bin/sh"} <= set(lines(done))
    assert made(build.image) == set()


def test_named_context_is_shown(build: Build, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/f").write_text("from elsewhere\n")
    os.chown(tmp_path / "more/f", 5, 5)
    done = build(
        f"""
        FROM {busybox}
        RUN --mount=from=more,target=/m cat /m/f && stat -c '%u %n' /m/f
        """,
        f"--build-context=more={tmp_path / 'more'}",
    )

    assert {"from elsewhere", "0 /m/f"} <= set(lines(done))


def test_variables_are_expanded_in_mounts(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        ARG KIND=bind
        ENV DIR=d
        RUN --mount=type=$KIND,source=${{DIR}},target=/x/$DIR ls /x/d
        """,
        files={"d/found": ""},
    )

    assert "found" in lines(done)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("target=/x,source=none", ["Dockerfile:3", '"none" does not exist in the build context']),
        ("target=/x,source=hidden", ["Dockerfile:3", "is excluded from the build context"]),
        ("from=0,target=/x,source=/none", ['"/none" does not exist in stage stage-0']),
        ("type=tmpfs,target=/", ["Dockerfile:3", "in the place of the root directory"]),
        ("type=secret,id=s,required", ["the secret s is required", "--secret id=s"]),
        ("type=ssh,required", ["the SSH agent default is required"]),
        ("type=cache,target=/x,sharing=mine", ["Dockerfile:3", "'mine'"]),
        ("target=/bin/sh", ["/bin/sh: Not a directory"]),
    ],
)
def test_mounts_that_cannot_be_are_one_sentence(
    build: Build, busybox: str, mount: str, words: list[str]
) -> None:
    done = build(
        f"FROM {busybox}\nFROM {busybox}\nRUN --mount={mount} true\n",
        files={"hidden": "", ".dockerignore": "hidden\n"},
        check=False,
    )

    said(done, *words)
    assert build.programs.leftovers() == []


# --- cache -----------------------------------------------------------------------------------


def _kept_in(directory: Path) -> list[str]:
    directory.mkdir(exist_ok=True)
    # The commands of the second build are to run.
    return ["--cache", f"--cache-dir={directory}", "--cache-run-layers=false"]


def test_cache_is_kept_between_builds_and_is_in_no_layer(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    dockerfile = f"""
        FROM {busybox}
        RUN --mount=type=cache,target=/var/cache/x cat /var/cache/x/n; echo n > /var/cache/x/n
        RUN --mount=type=cache,id=/var/cache/x,target=/y,ro cat /y/n; touch /y/new || echo refused
        RUN ls -A /var/cache || echo nothing
        """
    cache = _kept_in(tmp_path / "cache")
    first = build(dockerfile, *cache)
    second = build(dockerfile, *cache)

    assert lines(first).count("n") == 1
    assert lines(second).count("n") == 2
    assert "refused" in lines(first)
    assert made(build.image) == set()
    assert "kept for this build only" not in first.written
    assert build.programs.leftovers() == []


def test_cache_without_a_cache_directory_lasts_as_long_as_the_build(
    build: Build, busybox: str
) -> None:
    dockerfile = f"""
        FROM {busybox} AS one
        RUN --mount=type=cache,target=/c echo kept > /c/n
        FROM one
        RUN --mount=type=cache,target=/c cat /c/n
        """
    for _ in range(2):
        done = build(dockerfile)
        assert lines(done).count("kept") == 1
        assert done.written.count("kept for this build only") == 1
    assert build.programs.leftovers() == []


def test_cache_has_mode_owner_and_first_content(build: Build, busybox: str, tmp_path: Path) -> None:
    dockerfile = f"""
        FROM {busybox} AS seed
        ARG SEED
        RUN mkdir -p /s/d && echo $SEED > /s/d/f && chown 7 /s/d/f
        FROM {busybox}
        USER 1000
        RUN --mount=type=cache,target=/c,uid=1000,gid=99,mode=0700 \\
            stat -c '%u:%g %a %n' /c; touch /c/mine; ls /c
        USER 0
        RUN --mount=type=cache,target=/c stat -c '%u:%g %a %n' /c; ls -A /c
        RUN --mount=type=cache,target=/seeded,from=seed,source=/s \\
            cat /seeded/d/f; stat -c '%u %n' /seeded/d/f; ls /seeded; touch /seeded/more
        """
    cache = _kept_in(tmp_path / "cache")
    first = lines(build(dockerfile, "--build-arg=SEED=corn", *cache))
    again = lines(build(dockerfile, "--build-arg=SEED=corn", *cache))
    other = lines(build(dockerfile, "--build-arg=SEED=rye", *cache))

    assert {"1000:99 700 /c", "0:0 755 /c", "corn", "7 /seeded/d/f"} <= set(first)
    assert first.count("mine") == 1
    assert "more" not in first
    assert "more" in again
    assert "rye" in other
    assert "more" not in other


def test_namespaces_keep_caches_apart(build: Build, busybox: str, tmp_path: Path) -> None:
    dockerfile = f"FROM {busybox}\nRUN --mount=type=cache,target=/c ls /c; touch /c/was-here\n"
    cache = _kept_in(tmp_path / "cache")
    build(dockerfile, *cache)
    other = build(dockerfile, "--build-arg=BUILDKIT_CACHE_MOUNT_NS=other", *cache)
    same = build(dockerfile, *cache)

    assert "was-here" not in lines(other)
    assert "was-here" in lines(same)


def test_locked_cache_is_used_by_one_build_at_a_time(
    programs: Programs, busybox: str, tmp_path: Path
) -> None:
    cache = _kept_in(tmp_path / "cache")
    script = (
        "mkdir /c/busy || exit 9; echo start; sleep 1; rmdir /c/busy; echo x >> /c/count;"
        " wc -l < /c/count"
    )
    running = []
    for number in range(2):
        context = tmp_path / f"context-{number}"
        context.mkdir()
        (context / "Dockerfile").write_text(
            f"FROM {busybox}\n"
            f"RUN --mount=type=cache,target=/c,sharing=locked {script}\n"
            f"RUN --mount=type=cache,target=/c,sharing=locked {script}\n"
        )
        running.append(programs.start_executor(f"--context={context}", "--no-push", *cache))
    done = [finished(process) for process in running]

    assert sorted(line for each in done for line in lines(each) if line in "1234") == list("1234")
    assert any("the cache /c is used by another command; waiting" in each.written for each in done)


def test_build_that_waits_for_a_cache_can_be_given_up(
    programs: Programs, busybox: str, tmp_path: Path
) -> None:
    cache = _kept_in(tmp_path / "cache")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f"FROM {busybox}\nRUN --mount=type=cache,target=/c,sharing=locked sleep 77.7\n"
    )
    flags = (f"--context={context}", "--no-push", *cache)
    with running(programs, *flags) as first:
        eventually(lambda: _runs(programs, "sleep 77.7"), _SECONDS)
        with running(programs, *flags) as second:
            assert second.stderr is not None
            while b"waiting for it" not in second.stderr.readline():
                assert second.poll() is None
            for process in (second, first):
                process.send_signal(signal.SIGTERM)
                process.wait(_SECONDS)
    assert programs.leftovers() == []


# --- tmpfs, and mounts in mounts -------------------------------------------------------------


def test_tmpfs_is_empty_of_the_asked_size_and_gone_afterwards(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN mkdir /data && touch /data/below
        RUN --mount=type=tmpfs,target=/data,size=1m df -k /data && ls -A /data && \\
            ! dd if=/dev/zero of=/data/big bs=1k count=2000 2>/dev/null
        RUN --mount=type=tmpfs,target=/ro,ro ! touch /ro/x
        RUN ls /data
        """
    )

    assert any(re.match(r"tmpfs +1024 +0 ", line) for line in lines(done))
    assert lines(done).count("below") == 1
    assert made(build.image) == {"data", "data/below"}


def test_mounts_in_mounts_are_made_from_the_outside_in(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN --mount=type=tmpfs,target=/a/b/c --mount=type=cache,target=/a/b --mount=target=/a,rw \\
            --mount=type=secret,id=s,target=/a/b/c/secret \\
            ls /a && touch /a/b/in-cache /a/b/c/in-memory && ls /a/b /a/b/c && \\
            ! grep -c . /a/b/c/secret
        RUN --mount=type=cache,target=/a/b ls /a/b
        RUN --mount=target=/x --mount=type=tmpfs,target=/x ls -A /x
        """,
        "--secret=id=s,src=/dev/null",
        files={"from-context": ""},
    )

    said_lines = lines(done)
    assert said_lines.count("from-context") == 1
    assert said_lines.count("in-cache") == 2
    assert said_lines.count("in-memory") == 1
    assert made(build.image) == set()
    assert not (build.context / "b").exists()


def test_mount_points_leave_no_trace(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN mkdir /opt && chmod 711 /opt && touch -d @1000000000 /opt
        WORKDIR /work
        RUN --mount=type=cache,target=/new/deep/cache --mount=type=tmpfs,target=/opt/inside \\
            --mount=type=secret,id=s --mount=type=secret,id=s,target=/opt/file \\
            --mount=type=secret,id=s,target=relative --mount=type=ssh,target=/sockets/one \\
            --mount=target=/work/src touch /new/kept /opt/inside/x && find / -xdev -name kept
        RUN stat -c '%a %Y %n' /opt; ls -A /opt /work /new /run 2>&1 || true
        """,
        "--secret=id=s,src=/dev/null",
    )

    assert made(build.image) == {"opt", "work", "new", "new/kept"}
    assert "711 1000000000 /opt" in lines(done)
    assert any("/run: No such file" in line for line in lines(done))


def test_layer_is_the_same_with_mounts_and_without(
    build: Build, busybox: str, registry_names: list[str]
) -> None:
    command = "mkdir -p /var/lib && echo x > /var/lib/x && touch -d @1000000000 /var/lib/x /var/lib"
    mounts = "--mount=type=cache,target=/var/cache/y --mount=type=secret,id=s --mount=target=/m"
    digests = []
    for flags in ("", mounts):
        build(f"FROM {busybox}\nRUN {flags} {command} && touch -d @1 /var\n")
        digests.append(readers.config(build.image)["rootfs"]["diff_ids"])

    assert digests[0] == digests[1]


# --- secrets ---------------------------------------------------------------------------------


def test_secret_is_nowhere_but_in_the_command(build: Build, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{_SECRET}\nsecond line\n")
    build.fill(
        {
            "Dockerfile": f"""
        FROM {busybox}
        USER 1000
        RUN --mount=type=secret,id=key,uid=1000 --mount=type=secret,id=token,env=TOKEN \\
            cat /run/secrets/key; echo "token $TOKEN"; stat -c '%a %u %n' /run/secrets/key; \\
            (printf 'correct '; sleep 0.2; printf 'horse bat'; sleep 0.2; echo tery); \\
            test "$(head -n 1 /run/secrets/key)" = '{_SECRET.replace("horse", "'horse'")}' && \\
            echo "$TOKEN" | md5sum && ! touch /run/secrets/key; true
        RUN test ! -e /run/secrets && test -z "$TOKEN"
        """
        }
    )
    done = finished(
        build.programs.start_executor(
            *build.arguments,
            f"--secret=id=key,src={tmp_path / 'key'}",
            "--secret=id=token,env=THE_TOKEN",
            env={"THE_TOKEN": "t0ken-value"},
        )
    )

    said_lines = lines(done)
    assert said_lines.count("***") == 2
    assert "token ***" in said_lines
    assert "400 1000 /run/secrets/key" in said_lines
    assert hashlib.md5(b"t0ken-value\n").hexdigest() + "  -" in said_lines
    for secret in (_SECRET, "second line", "t0ken-value"):
        assert secret not in done.written
    assert made(build.image) == set()
    assert build.programs.leftovers() == []
    with readers.unpacked(build.image) as root:
        grep = ["grep", "-rlE", f"{_SECRET}|second line|t0ken-value", root]
        assert subprocess.run(grep, check=False, capture_output=True).stdout == b""
    assert "t0ken" not in str(readers.config(build.image))


def test_workspace_never_holds_a_secret(programs: Programs, busybox: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "key").write_text(_SECRET)
    (context / "Dockerfile").write_text(
        f"FROM {busybox}\nRUN --mount=type=secret,id=k --mount=type=secret,id=k,env=K sleep 66.6\n"
    )
    flags = (f"--context={context}", "--no-push", f"--secret=id=k,src={tmp_path / 'key'}")
    with running(programs, *flags) as process:
        eventually(lambda: _runs(programs, "sleep 66.6"), _SECONDS)
        grep = ["grep", "-rl", _SECRET, programs.work, programs.temporary]
        assert subprocess.run(grep, check=False, capture_output=True).stdout == b""
        process.send_signal(signal.SIGTERM)
        process.wait(_SECONDS)
    assert programs.leftovers() == []


def test_failing_command_does_not_tell_secrets(build: Build, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{_SECRET}\n")
    done = build(
        f"""
        FROM {busybox}
        RUN --mount=type=secret,id=key set -x; cat /run/secrets/key; echo "{_SECRET[:9]}" >&2; \\
            cat /run/secrets/key >&2; exit 3
        """,
        f"--secret=id=key,src={tmp_path / 'key'}",
        check=False,
    )

    assert done.status == 3
    assert _SECRET not in done.written
    assert "its last output was" in done.stderr
    assert "***" in done.stderr[done.stderr.index("its last output was") :]


def test_missing_secret_is_told_before_anything_is_pulled(build: Build) -> None:
    done = build(
        "FROM 127.0.0.1:1/nothing\nRUN --mount=type=secret,id=k true\n",
        "--secret=id=k,src=/nowhere/k",
        check=False,
    )

    said(done, "the secret k cannot be read from /nowhere/k: No such file or directory")
    done = build("FROM 127.0.0.1:1/nothing\n", "--secret=id=k,env=NOT_SET", check=False)
    said(done, "the variable NOT_SET, which is not set")


# --- agents ----------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id_test"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the test's key", "-f", path]
    subprocess.run(command, check=True)
    path.chmod(0o644)
    return path


@pytest.fixture
def agent(key: Path, tmp_path: Path) -> Iterator[Path]:
    """An agent of a user's session."""
    socket = tmp_path / "session"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists)
        key.chmod(0o600)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        yield socket
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="openssh-client is not installed")
def test_session_agent_is_forwarded_to_any_user(
    programs: Programs, debian: str, agent: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "ask.pl").write_text(_PERL)
    (context / "Dockerfile").write_text(
        f"FROM {debian}\n"
        "RUN --mount=type=ssh --mount=target=/x perl /x/ask.pl\n"
        "USER 1000\n"
        "RUN --mount=type=ssh,uid=1000,gid=7,mode=0660 --mount=target=/x "
        "stat -c '%u:%g %a %n' $SSH_AUTH_SOCK && perl /x/ask.pl\n"
        "RUN --mount=type=ssh,id=none --mount=target=/x test ! -e $SSH_AUTH_SOCK\n"
    )
    done = finished(
        programs.start_executor(
            f"--context={context}", "--no-push", "--ssh=default", env={"SSH_AUTH_SOCK": str(agent)}
        )
    )

    assert done.written.count("the test's key") == 2
    assert "1000:7 660 /run/buildkit/ssh_agent.0" in lines(done)
    assert programs.leftovers() == []


# Asks the agent for its keys: SSH_AGENTC_REQUEST_IDENTITIES (draft-ietf-sshm-ssh-agent).
_PERL = r"""
use IO::Socket::UNIX;
my $agent = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die "no agent: $!";
$agent->print("\0\0\0\1\13"); $agent->flush; $agent->recv(my $answer, 65536);
print join(" ", $answer =~ /([ -~]{6,})/g), "\n";
"""


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="openssh-client is not installed")
def test_keys_are_held_by_an_agent_of_the_build(build: Build, debian: str, key: Path) -> None:
    done = build(
        f"""
        FROM {debian}
        RUN --mount=type=ssh,id=deploy,target=/agent --mount=target=/x \\
            echo $SSH_AUTH_SOCK && perl /x/ask.pl
        RUN test -z "$SSH_AUTH_SOCK"
        """,
        f"--ssh=deploy={key}",
        files={"ask.pl": _PERL},
    )

    assert "/agent" in lines(done)
    assert done.written.count("the test's key") == 1
    assert build.programs.leftovers() == []


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="openssh-client is not installed")
def test_agent_of_a_killed_build_ends(
    programs: Programs, busybox: str, key: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {busybox}\nRUN --mount=type=ssh sleep 55.5\n")
    flags = (f"--context={context}", "--no-push", f"--ssh=default={key}")
    with running(programs, *flags) as process:
        eventually(lambda: _runs(programs, "sleep 55.5"), _SECONDS)
        process.kill()
    # ssh-agent looks every ten seconds whether it is still wanted.
    eventually(lambda: not programs.processes(), _SECONDS)


# --- networks and rights ---------------------------------------------------------------------


def test_without_network_there_is_loopback_alone(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN --network=none ip -o link | cut -d: -f2; ip route; ping -c 1 -w 2 127.0.0.1
        RUN --network=default ls /sys/class/net | sort | tr '\\n' ' '
        RUN --network=host ls /sys/class/net | sort | tr '\\n' ' '
        """
    )

    said_lines = lines(done)
    assert said_lines.count("lo") == 1
    assert any("1 packets received" in line for line in said_lines)
    assert not any(line.startswith("default via") for line in said_lines)
    ours = " ".join(sorted(os.listdir("/sys/class/net")))
    assert said_lines.count(ours) == 2


def test_insecure_is_refused_before_anything_is_pulled(build: Build) -> None:
    done = build("FROM 127.0.0.1:1/nothing\nRUN --security=insecure true\n", check=False)

    said(done, "Dockerfile:2", "--security=insecure is not allowed", "--allow security.insecure")


def test_insecure_has_the_rights_of_the_builder(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN --security=insecure grep CapEff /proc/self/status; mkdir /m && \\
            mount -t tmpfs x /m && touch /m/x && umount /m && rmdir /m && \\
            grep -c ' /proc/sys ' /proc/mounts; grep ' /sys ' /proc/mounts
        RUN --security=sandbox grep CapEff /proc/self/status; ! mount -t tmpfs x /tmp
        """,
        "--allow=security.insecure",
    )

    ours = re.search(r"CapEff:\t(\w+)", Path("/proc/self/status").read_text())
    assert ours is not None
    found = re.findall(r"CapEff:\t(\w+)", done.written)
    assert found == [ours[1], "00000000a80425fb"]
    assert "0" in lines(done)
    assert any(re.match(r"sysfs /sys sysfs rw", line) for line in lines(done))
    assert made(build.image) == set()


def test_host_name_is_what_the_build_argument_says(build: Build, busybox: str) -> None:
    dockerfile = f"FROM {busybox}\nRUN hostname; grep -c $(hostname) /etc/hosts\n"
    done = build(dockerfile, "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=box.example")
    assert "box.example" in lines(done)
    assert "has no effect" not in done.written
    assert "kaniko" in lines(build(dockerfile))
    said(
        build(dockerfile, "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=a b", check=False),
        "BUILDKIT_SANDBOX_HOSTNAME=a b is no host name",
    )


def test_process_that_is_left_running_is_ended(build: Build, busybox: str) -> None:
    began = time.monotonic()
    build(
        f"""
        FROM {busybox}
        RUN --mount=type=cache,target=/c,sharing=locked (setsid sleep 44.4 &) ; echo up
        RUN --mount=type=cache,target=/c,sharing=locked echo next
        """
    )

    assert time.monotonic() - began < 20
    assert not build.programs.processes("sleep 44.4")
    assert build.programs.leftovers() == []


# --- here-documents --------------------------------------------------------------------------


def test_here_document_is_the_shells(build: Build, busybox: str) -> None:
    done = build(
        f"""FROM {busybox}
RUN <<EOF
set -e
A=one
echo "$A-two"
EOF
RUN <<-EOF
\t\techo "chomped"
\tEOF
SHELL ["/bin/busybox", "awk"]
RUN <<'EOF'
BEGIN {{ print "awk " 6 * 7 }}
EOF
SHELL ["/bin/ash", "-ec"]
RUN cat <<A && cat <<-"B" > /out
first $((1+1))
A
\tsecond $HOME
B
"""
    )

    assert {"one-two", "chomped", "awk 42", "first 2"} <= set(lines(done))
    with readers.unpacked(build.image) as root:
        assert (root / "out").read_text() == "second $HOME\n"
    created = [entry["created_by"] for entry in readers.config(build.image)["history"]]
    assert created[-1].startswith('RUN /bin/ash -ec cat <<A && cat <<-"B" > /out\n')


def test_here_document_that_is_a_program_is_executed(build: Build, busybox: str) -> None:
    done = build(
        f"""FROM {busybox}
USER 1000
RUN --mount=type=cache,target=/c <<script
#!/bin/awk -f
BEGIN {{ print "awk " 6 * 7; print ENVIRON["HOME"] "!" }}
script
RUN <<EOF
#!/bin/sh -e
echo "I am $0"; stat -c '%u %a' $0; ! touch $0
EOF
USER 0
RUN test ! -e /dev/pipes
"""
    )

    assert {"awk 42", "/!", "I am /dev/pipes/EOF", "0 755"} <= set(lines(done))
    assert made(build.image) == set()
    created = [entry["created_by"] for entry in readers.config(build.image)["history"]]
    assert created[-2] == "USER 0" or "RUN /bin/sh -c /dev/pipes/EOF # buildkit" in created
