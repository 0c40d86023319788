"""How git starts ssh, and what both are told about the machine.

Where the machine has git, that runs ssh with options, by a shell. Our images have no shell, and
the one of an image under construction is none of ours: there git starts our ssh without any
options, which finds them in the home of its user: a directory that is made for them.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.home import PROGRAMS
from kaniko_core.home import home as carried

# Tells ssh who its user is: there may be no /etc/passwd, or that of an image.
_USERS = "libnss_wrapper.so"
_PASSWD, _GROUP = "passwd", "group"


def programs_environment(home: Path, options: Sequence[str]) -> Mapping[str, str]:
    """Return the variables by which git finds its programs, and ssh its options.

    Args:
        home: an existing directory that git has to itself.
        options: such as ``BatchMode=yes``.

    Raises:
        DiskError: *home* cannot be written.
    """
    directory = carried()
    if directory is None:
        command = shlex.join(["ssh", "-F", os.devnull, *(f"-o{option}" for option in options)])
        return {"PATH": os.pathsep.join(os.get_exec_path()), "GIT_SSH_COMMAND": command}
    programs, user = directory / PROGRAMS, _user(home.absolute(), options)
    return {
        "PATH": str(programs),
        "GIT_EXEC_PATH": str(programs),
        "GIT_SSH": str(programs / "ssh"),
        "GIT_SSH_VARIANT": "ssh",
        "LD_PRELOAD": str(directory / "lib" / _USERS),
        "NSS_WRAPPER_PASSWD": str(user / _PASSWD),
        "NSS_WRAPPER_GROUP": str(user / _GROUP),
    }


def _user(home: Path, options: Sequence[str]) -> Path:
    """Return the home of a user with these *options* for ssh, made if it is not there."""
    text = "".join(f"{_for_anyone(option)}\n" for option in options)
    user = home / f"ssh-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if user.exists():
        return user
    uid, gid = os.getuid(), os.getgid()
    with disk_errors("write ssh's configuration in", home):
        made = Path(tempfile.mkdtemp(dir=home, prefix=".ssh-"))
        (made / ".ssh").mkdir(mode=0o700)
        config = made / ".ssh" / "config"
        config.write_text(text)
        config.chmod(0o600)  # ssh reads none that a group may write to
        (made / _PASSWD).write_text(f"kaniko:x:{uid}:{gid}::{user}:/nowhere\n")
        (made / _GROUP).write_text(f"kaniko:x:{gid}:\n")
        # Another thread may have been faster, with the same.
        try:
            made.rename(user)
        except OSError:
            shutil.rmtree(made)
            if not user.exists():
                raise
    return user


def _for_anyone(option: str) -> str:
    """Return *option* as it is where ``~`` is another user's home."""
    try:
        return option.replace(" ~/", f" {Path.home()}/")
    except RuntimeError:
        return option  # there is no such user
