"""Running git: with nothing of this machine's configuration, and nothing that asks or executes.

What git finds is decided here: no configuration of the system or the user, no hooks, no
filters, no helpers, no prompts, and only the protocols that are named. Credentials are given
in its environment, where neither the list of processes nor the repository shows them.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import IO

from kaniko_core.errors import ContextError, KanikoError, disk_errors, reason_of
from kaniko_core.home import program
from kaniko_core.lean import dataclass
from kaniko_core.remote.git.ssh import programs_environment
from kaniko_core.remote.git.watch import Watch

_INSTALL = "install the package git; an image for building usually has it already"
# The first git that takes configuration from its environment.
_OLDEST = (2, 31)
_UMASK = 0o022
_SHOWN = 64 << 10  # bytes of what git says that are looked at, from the end
_LARGEST = 64 << 20  # bytes of an answer of git
_POLL = 0.1  # seconds
_SHORTEST_SECRET = 6  # characters; what is shorter is a part of many words
_SECONDS_WITHOUT_A_BYTE = 60
# The same where git has no such limit of its own.
_PATIENCE = 120.0
_CONFIGURATION = {
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
    # Larger files pass through in pieces, and of packs no more is mapped than the last of these:
    # git would else take twice the memory of a repository's largest file.
    "core.bigFileThreshold": "16m",
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "64m",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.logAllRefUpdates": "false",
    "credential.helper": "",
    # Objects stay in the pack that the server made, whose name says what is in it.
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": str(_SECONDS_WITHOUT_A_BYTE),
    "init.defaultBranch": "master",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "safe.directory": "*",
}
# What git and ssh say behind the reason.
_ADVICE = re.compile(
    r"fatal: Could not read from remote repository\.|Please make sure you have the correct|"
    r"and the repository exists|hint:|Warning: Permanently added|Cloning into|fatal: clone of|"
    r"Failed to clone|fatal: Failed to recurse",
)
_PREFIX = re.compile(r"(?:fatal|(?<!remote )error|remote|ssh):\s*")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_TEMPORARY = re.compile(
    r"early EOF|timed out|Connection reset|RPC failed|unexpected disconnect|hung up unexpectedly|"
    r"Temporary failure|Could not resolve host|returned error: (?:429|5\d\d)|"
    r"Operation too slow|Empty reply"
)


class GitFailed(KanikoError):  # noqa: N818 - reads as the fact that it is
    """Git ended with another status than 0; *said* is the end of what it wrote."""

    def __init__(self, said: str) -> None:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        telling = [line for line in lines if not _ADVICE.match(line)] or lines
        last = telling[-1] if telling else "git does not say why"
        reason = _USERINFO.sub("", _PREFIX.sub("", last))
        super().__init__(reason[:300])
        self.said = said

    @property
    def temporary(self) -> bool:
        """Whether trying again can help."""
        return _TEMPORARY.search(self.said) is not None


@dataclass(frozen=True, slots=True)
class Access:
    """How a repository is reached.

    Attributes:
        protocols: those that git may speak.
        configuration: more of git's, such as headers for one address.
        ssh_socket: of the agent that has the keys.
        keys: files with keys for ssh.
        known_hosts: files with the keys of hosts that the user knows.
        traced: whether git says what servers answer, in what it writes about errors.
    """

    protocols: Sequence[str]
    configuration: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_socket: Path | None = None
    keys: tuple[Path, ...] = ()
    known_hosts: tuple[Path, ...] = ()
    traced: bool = False


@dataclass(frozen=True, slots=True)
class GitProgram:
    """The system's git.

    Attributes:
        path: where it is.
        home: an empty directory, for what git and ssh keep about hosts.
        stopped: set by whoever gives everything up; a git that runs is ended then.
        patience: seconds after which a git that nothing comes to is ended, too.
    """

    path: str
    home: Path
    stopped: threading.Event
    patience: float = _PATIENCE

    def run(
        self,
        access: Access,
        *arguments: str,
        directory: Path | None = None,
        lines: IO[bytes] | None = None,
    ) -> str:
        """Run git in *directory*, have it read *lines*, and return what it writes.

        Raises:
            GitFailed: it ended with an error.
            ContextError: it cannot be started, or was given up.
            DiskError: there is no room for what it says.
        """
        with self.answer(access, *arguments, directory=directory, lines=lines) as answer:
            return answer.read(_LARGEST).decode("utf-8", "surrogateescape")

    @contextmanager
    def answer(
        self,
        access: Access,
        *arguments: str,
        directory: Path | None = None,
        lines: IO[bytes] | None = None,
    ) -> Iterator[IO[bytes]]:
        """Do as :meth:`run`, but give what git writes as a file, whatever its size."""
        command = (self.path, *arguments)
        with self._answer(access, command, directory or self.home, lines) as answer:
            yield answer

    def run_ssh(self, access: Access, *arguments: str) -> str:
        """Run ssh as git does, and return what it writes.

        Raises:
            GitFailed: it ended with an error.
            ContextError: it cannot be started, or was given up.
            DiskError: there is no room for what it says.
        """
        programs = programs_environment(self.home, self._ssh(access))
        options = shlex.split(programs.get("GIT_SSH_COMMAND", "")) or [programs["GIT_SSH"]]
        with self._answer(access, (*options, *arguments), self.home, None) as answer:
            return answer.read(_LARGEST).decode("utf-8", "surrogateescape")

    def scratch(self) -> IO[bytes]:
        """Return an empty file for lines that git is to read; it vanishes when it is closed."""
        return tempfile.TemporaryFile(dir=self.home)

    @contextmanager
    def _answer(
        self, access: Access, command: Sequence[str], directory: Path, lines: IO[bytes] | None
    ) -> Iterator[IO[bytes]]:
        with ExitStack() as stack:
            with disk_errors("keep what git says in", self.home):
                answer, said = (stack.enter_context(self.scratch()) for _ in range(2))
                files = (lines or subprocess.DEVNULL, answer, said)
                status = self._run(access, command, directory, files)
                if status != 0:
                    size = said.seek(0, os.SEEK_END)
                    said.seek(max(0, size - _SHOWN))
                    raise GitFailed(_harmless(said.read().decode(errors="replace"), access))
                answer.seek(0)
            yield answer

    def _run(
        self,
        access: Access,
        command: Sequence[str],
        directory: Path,
        files: tuple[IO[bytes] | int, IO[bytes], IO[bytes]],
    ) -> int:
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=self._environment(access),
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                umask=_UMASK,
                # Git starts others, which are ended with it; Ctrl-C is for the builder.
                start_new_session=True,
            )
        except OSError as error:
            name = Path(command[0]).name
            raise ContextError(f"{name} cannot be started: {reason_of(error)}") from error
        watch = Watch(process.pid, self.patience)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL)
                if self.stopped.is_set():
                    raise ContextError("the transfer was cancelled")
                if watch.is_stuck():
                    raise GitFailed(f"nothing came from the server in {self.patience:g} seconds")
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def _environment(self, access: Access) -> dict[str, str]:
        configuration = {**_CONFIGURATION, **_certificates(), **access.configuration}
        environment = {
            "HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": ":".join(access.protocols),
            "GIT_ATTR_NOSYSTEM": "1",
            # No repository around this directory has a say.
            "GIT_CEILING_DIRECTORIES": str(self.home.parent),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": str(len(configuration)),
            "GIT_TEMPLATE_DIR": "",
            "GIT_TERMINAL_PROMPT": "0",
            **programs_environment(self.home, self._ssh(access)),
            **_proxies(),
        }
        for number, (key, value) in enumerate(configuration.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = key
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        if access.traced:
            environment |= {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}
        if access.ssh_socket is not None:
            environment["SSH_AUTH_SOCK"] = str(access.ssh_socket)
        return environment

    def _ssh(self, access: Access) -> list[str]:
        """Return options of ssh, as in ``-o`` and in a line of its configuration."""
        known = (self.home / "known_hosts", *access.known_hosts)
        files = " ".join(f'"{path}"' for path in known).replace("%", "%%")
        return [
            "BatchMode=yes",
            "ConnectTimeout=30",
            "ServerAliveInterval=30",
            # As BuildKit does: a host that nobody knows is believed, one that changed is not.
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={files} ~/.ssh/known_hosts",
            # Keys come from the agent and the files that the user gave, or not at all.
            *[f'IdentityFile="{path}"'.replace("%", "%%") for path in access.keys],
            *([] if access.keys else ["IdentityFile=none"]),
        ]


def find_git(home: Path, stopped: threading.Event) -> GitProgram:
    """Return the system's git, which keeps its files in the directory *home*, made here.

    Raises:
        ContextError: there is none, or it is too old.
        DiskError: *home* cannot be made.
    """
    path = program("git")
    if path is None:
        raise ContextError(
            "git repositories need the program git, which is not installed here",
            hint=_INSTALL,
        )
    with disk_errors("make", home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    git = GitProgram(path, home, stopped)
    said = git.run(Access(()), "version")
    version = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
    if version < _OLDEST:
        raise ContextError(
            f"git repositories need git 2.31 or newer; {path} is {said.strip()}",
            hint="install a newer git",
        )
    return git


def _harmless(said: str, access: Access) -> str:
    """Return *said* without what servers may repeat of the credentials that they were told."""
    for key, value in access.configuration.items():
        if not key.endswith(".extraHeader"):
            continue
        word = value.split()[-1]
        with suppress(ValueError):
            user, _, password = base64.b64decode(word, validate=True).decode().partition(":")
            secret = password or user
            said = said.replace(secret, "***") if len(secret) >= _SHORTEST_SECRET else said
        said = said.replace(word, "***")
    return said


def _certificates() -> dict[str, str]:
    """Return git's form of SSL_CERT_FILE and SSL_CERT_DIR, which everything else heeds as well."""
    paths = ssl.get_default_verify_paths()
    found = {
        "http.sslCAInfo": paths.cafile if paths.cafile != paths.openssl_cafile else None,
        "http.sslCAPath": paths.capath if paths.capath != paths.openssl_capath else None,
    }
    return {key: path for key, path in found.items() if path}


def _proxies() -> dict[str, str]:
    """Return the variables of proxies, which httpx heeds as well."""
    from urllib.request import getproxies_environment

    return {f"{scheme}_proxy": address for scheme, address in getproxies_environment().items()}
