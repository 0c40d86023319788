"""Helper programs: ``docker-credential-NAME get``, ``store`` and ``erase``.

They are looked for on PATH, and in the directory that carries us. This is the only module of
the registry's that starts processes.
Source: github.com/docker/docker-credential-helpers, "Development".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaniko_core.errors import UsageError
from kaniko_core.home import home
from kaniko_core.registry.credentials import Credentials, one_line

# Seconds; helpers of cloud providers talk to their metadata service.
_TIMEOUT = 30.0
_NOT_FOUND = "credentials not found"


class HelperProgram:
    """A helper program by its name, such as ``pass`` for ``docker-credential-pass``.

    Args:
        name: without ``docker-credential-``.
        named_in: the config file that wants it, for errors.
        environment: what the program is started with; that of this process by default.

    Raises:
        UsageError: *name* can be no program's.
    """

    def __init__(
        self, name: str, named_in: str, environment: Mapping[str, str] | None = None
    ) -> None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(f"{named_in} names {name!r}, which is no credential helper")
        self.program = f"docker-credential-{name}"
        self._named_in = named_in
        self._environment = os.environ if environment is None else environment

    @property
    def installed(self) -> bool:
        """Whether there is such a program."""
        return self._path() is not None

    def ask(self, server: str) -> Credentials | None:
        """Return its credentials for *server*; None where it knows none.

        Raises:
            UsageError: it is not installed, or does not work.
        """
        status, said = self._run("get", server.encode())
        if status == 0:
            return self._answer(said)
        if _NOT_FOUND in said.decode(errors="replace").lower():
            return None
        raise self._failed(said)

    def store(self, server: str, credentials: Credentials) -> None:
        """Let it keep credentials; raise UsageError where it does not."""
        entry = {
            "ServerURL": server,
            "Username": credentials.username,
            "Secret": credentials.password,
        }
        status, said = self._run("store", json.dumps(entry).encode())
        if status != 0:
            raise self._failed(said)

    def erase(self, server: str) -> None:
        """Let it forget what it has for *server*, if it has; raise UsageError where it fails."""
        status, said = self._run("erase", server.encode())
        if status != 0 and _NOT_FOUND not in said.decode(errors="replace").lower():
            raise self._failed(said)

    def _path(self) -> str | None:
        import shutil

        path = self._environment.get("PATH") or os.defpath
        if (directory := home()) is not None:
            path = os.pathsep.join((path, str(directory), str(directory / "bin")))
        return shutil.which(self.program, path=path)

    def _run(self, action: str, given: bytes) -> tuple[int, bytes]:
        """Return the program's status and what it printed."""
        import subprocess  # 3 ms that most runs do not need

        path = self._path()
        if path is None:
            also = f", nor in {home()}" if home() is not None else ""
            raise self._broken(f"it is not installed (there is none on PATH{also})")
        try:
            done = subprocess.run(
                [str(Path(path).absolute()), action],
                input=given,
                capture_output=True,
                timeout=_TIMEOUT,
                env=dict(self._environment),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._broken(f"no answer in {_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise self._broken(error.strerror or "it cannot be started") from error
        # Helpers say what went wrong on stdout; a secret is only there after success.
        return done.returncode, done.stdout.strip() or (done.stderr if done.returncode else b"")

    def _answer(self, stdout: bytes) -> Credentials | None:
        try:
            answer: Any = json.loads(stdout)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._broken("its answer has no Username and Secret") from None
        if username == "<token>":
            return Credentials(identity_token=secret)
        return Credentials(username, secret) if username or secret else None

    def _failed(self, said: bytes) -> UsageError:
        return self._broken(f"it said: {one_line(said.decode(errors='replace'))}")

    def _broken(self, why: str) -> UsageError:
        return UsageError(
            f"the credential helper {self.program} does not work: {why}",
            hint=f"it is named in {self._named_in}; install or repair it, or remove it there",
        )
