"""Passwords by host, from the file that curl and git look into too."""

from __future__ import annotations

import netrc
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from kaniko_core.errors import reason_of
from kaniko_core.progress import Progress, Warned, silent

VARIABLE = "NETRC"
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Netrc:
    """The entries of ``$NETRC``, else of ``$HOME/.netrc``; safe to use from several threads.

    The file is read when somebody first asks for a host. One that cannot be read is worth one
    warning, which shows nothing of what is in it; then it has no entries. The entry ``default``
    is not used: a password for everybody is nobody's intention.

    Args:
        environment: the variables; without any, nothing is found.
        progress: told the warning.
    """

    def __init__(
        self, environment: Mapping[str, str] = _NOTHING, progress: Progress = silent
    ) -> None:
        named, home = environment.get(VARIABLE), environment.get("HOME")
        usual = Path(home) / ".netrc" if home else None
        self._path = Path(named) if named else usual
        self._named = bool(named)
        self._progress = progress
        self._lock = threading.Lock()
        self._entries: Mapping[str, tuple[str, str]] | None = None

    def find(self, host: str) -> tuple[str, str] | None:
        """Return user and password for *host*, with or without a port; None where there is none.

        An entry for the host with its port comes before one for all of the host.
        """
        with self._lock:
            if self._entries is None:
                self._entries = self._read()
        whole = host.lower()
        name, _, port = whole.rpartition(":")
        alone = name if port.isdecimal() else whole
        return self._entries.get(whole) or self._entries.get(alone.strip("[]"))

    def _read(self) -> Mapping[str, tuple[str, str]]:
        if self._path is None:
            return {}
        try:
            hosts = netrc.netrc(str(self._path)).hosts
        except FileNotFoundError as error:
            return self._unread(reason_of(error)) if self._named else {}
        except OSError as error:
            return self._unread(reason_of(error))
        except netrc.NetrcParseError as error:
            # Its own sentence quotes the file.
            return self._unread(f"line {error.lineno} is not understood")
        except ValueError:
            return self._unread("it is no text")
        return {
            host.lower().strip("[]") if host.endswith("]") else host.lower(): (user, password)
            for host, (user, _, password) in hosts.items()
            if host != "default" and (user or password)
        }

    def _unread(self, why: str) -> Mapping[str, tuple[str, str]]:
        self._progress(
            Warned(
                f"cannot read passwords from {self._path}: {why}",
                hint="its entries are not used; an entry looks like "
                "machine HOST login USER password PASSWORD",
            )
        )
        return {}
