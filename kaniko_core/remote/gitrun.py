"""Running git: with nothing of this machine's configuration, and nothing that asks or executes.

What git finds is decided here: no configuration of the system or the user, no hooks, no
filters, no helpers, no prompts, and only the protocols that are named. Credentials are given
in its environment, where neither the list of processes nor the repository shows them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kaniko_core.errors import ContextError, KanikoError, disk_errors, reason_of
from kaniko_core.home import home as carried

_INSTALL = "install the package git; an image for building usually has it already"
# The executor's image has nothing but the executor.
_FETCH = (
    "fetch the repository before the build, and name its directory with --build-context "
    "NAME=DIRECTORY, for COPY --from=NAME"
)
# The first git that takes configuration from its environment.
_OLDEST = (2, 31)
_UMASK = 0o022
_SHOWN = 64 << 10  # bytes of what git says that are looked at, from the end
_LARGEST = 64 << 20  # bytes of an answer of git
_POLL = 0.1  # seconds
_SECONDS_WITHOUT_A_BYTE = 60
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
_PREFIX = re.compile(r"(?:fatal|error|remote|ssh):\s*")
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
        telling = [line for line in lines if not _ADVICE.match(line)] or lines or ["nothing"]
        reason = _USERINFO.sub("", _PREFIX.sub("", telling[-1]))
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
    """

    protocols: Sequence[str]
    configuration: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh_socket: Path | None = None


@dataclass(frozen=True, slots=True)
class GitProgram:
    """The system's git.

    Attributes:
        path: where it is.
        home: an empty directory, for what git and ssh keep about hosts.
        stopped: set by whoever gives everything up; a git that runs is ended then.
    """

    path: str
    home: Path
    stopped: threading.Event

    def run(self, access: Access, *arguments: str, directory: Path | None = None) -> str:
        """Run git in *directory* and return what it writes.

        Raises:
            GitFailed: it ended with an error.
            ContextError: it cannot be started, or was given up.
            DiskError: there is no room for what it says.
        """
        with (
            disk_errors("keep what git says in", self.home),
            tempfile.TemporaryFile(dir=self.home) as answer,
            tempfile.TemporaryFile(dir=self.home) as said,
        ):
            status = self._run(access, arguments, directory or self.home, (answer, said))
            if status != 0:
                size = said.seek(0, os.SEEK_END)
                said.seek(max(0, size - _SHOWN))
                raise GitFailed(said.read().decode(errors="replace"))
            answer.seek(0)
            return answer.read(_LARGEST).decode("utf-8", "surrogateescape")

    def _run(
        self,
        access: Access,
        arguments: Sequence[str],
        directory: Path,
        outputs: tuple[IO[bytes], IO[bytes]],
    ) -> int:
        try:
            process = subprocess.Popen(
                [self.path, *arguments],
                cwd=directory,
                env=self._environment(access),
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                umask=_UMASK,
                # Git starts others, which are ended with it; Ctrl-C is for the builder.
                start_new_session=True,
            )
        except OSError as error:
            raise ContextError(f"git cannot be started: {reason_of(error)}") from error
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL)
                if self.stopped.is_set():
                    raise ContextError("the transfer was cancelled")
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def _environment(self, access: Access) -> dict[str, str]:
        configuration = {**_CONFIGURATION, **_certificates(), **access.configuration}
        environment = {
            "PATH": os.pathsep.join(os.get_exec_path()),
            "HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": ":".join(access.protocols),
            "GIT_ATTR_NOSYSTEM": "1",
            # No repository around this directory has a say.
            "GIT_CEILING_DIRECTORIES": str(self.home.parent),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": str(len(configuration)),
            "GIT_SSH_COMMAND": shlex.join(self._ssh()),
            "GIT_TERMINAL_PROMPT": "0",
            **_proxies(),
        }
        for number, (key, value) in enumerate(configuration.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = key
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        if access.ssh_socket is not None:
            environment["SSH_AUTH_SOCK"] = str(access.ssh_socket)
        return environment

    def _ssh(self) -> list[str]:
        known = f'"{self.home}/known_hosts" ~/.ssh/known_hosts'.replace("%", "%%")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "IdentityFile": "none",  # keys come from the agent that the user gave, or not at all
            "ServerAliveInterval": "30",
            # As BuildKit does: a host that nobody knows is believed, one that changed is not.
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": known,
        }
        settings = (f"-o{name}={value}" for name, value in options.items())
        return ["ssh", "-F", os.devnull, *settings]


def find_git(home: Path, stopped: threading.Event) -> GitProgram:
    """Return the system's git, which keeps its files in the directory *home*, made here.

    Raises:
        ContextError: there is none, or it is too old.
        DiskError: *home* cannot be made.
    """
    path = shutil.which("git")
    if path is None:
        raise ContextError(
            "git repositories need the program git, which is not installed here",
            hint=_INSTALL if carried() is None else _FETCH,
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


def _certificates() -> dict[str, str]:
    """Return git's form of SSL_CERT_FILE, which everything else here heeds as well."""
    paths = ssl.get_default_verify_paths()
    named = paths.cafile and paths.cafile != paths.openssl_cafile
    return {"http.sslCAInfo": str(paths.cafile)} if named else {}


def _proxies() -> dict[str, str]:
    """Return the variables of proxies, which httpx heeds as well."""
    from urllib.request import getproxies_environment

    return {f"{scheme}_proxy": address for scheme, address in getproxies_environment().items()}
