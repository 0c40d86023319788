"""Spell the builder's values as requests to the sandbox server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from kaniko_core.sandbox import wire
from kaniko_core.sandbox.runner import BindMount, FileMount, Mount, Process, TmpfsMount

_NOTHING: wire.ExtraMount = {
    "kind": "",
    "target": b"",
    "root": -1,
    "base": b"",
    "source": b"",
    "writable": False,
    "data": b"",
    "mode": 0,
    "uid": 0,
    "gid": 0,
    "size": 0,
}


def mount_request(
    lowers: Sequence[Path],
    upper: Path | None,
    work: Path | None,
    mounts: Sequence[Mount],
    *,
    bare: bool = False,
) -> wire.MountRequest:
    """Return the request for a root; see :meth:`kaniko_core.sandbox.client.Sandbox.mounted`."""
    return {
        "lowers": [os.fsencode(lower.absolute()) for lower in lowers],
        "upper": None if upper is None else os.fsencode(upper.absolute()),
        "work": None if work is None else os.fsencode(work.absolute()),
        # What is mounted at /a must be there before something is mounted at /a/b.
        "mounts": [_extra(m) for m in sorted(mounts, key=lambda m: m.target.count("/"))],
        "bare": bare,
    }


def run_request(process: Process, root: int) -> wire.RunRequest:
    """Return the request to run *process* in the mounted root with the number *root*."""
    return {
        "root": root,
        "argv": [os.fsencode(word) for word in process.argv],
        "env": [os.fsencode(pair) for pair in (*process.env, *process.secret_env)],
        "cwd": os.fsencode(process.cwd),
        "uid": process.uid,
        "gid": process.gid,
        "groups": list(process.groups),
        "network": process.network,
        "hostname": process.hostname,
        "privileged": process.privileged,
        "hosts": b"",
        "resolv_conf": b"",
    }


def _extra(mount: Mount) -> wire.ExtraMount:
    match mount:
        case BindMount(target, base, source, writable):
            return _NOTHING | {
                "kind": "bind",
                "target": os.fsencode(target),
                "root": base if isinstance(base, int) else -1,
                "base": b"" if isinstance(base, int) else os.fsencode(base.absolute()),
                "source": os.fsencode(source),
                "writable": writable,
            }
        case TmpfsMount(target, size, mode, read_only):
            return _NOTHING | {
                "kind": "tmpfs",
                "target": os.fsencode(target),
                "size": size,
                "mode": mode,
                "writable": not read_only,
            }
        case FileMount(target, data, mode, uid, gid):
            return _NOTHING | {
                "kind": "file",
                "target": os.fsencode(target),
                "data": data,
                "mode": mode,
                "uid": uid,
                "gid": gid,
            }
        case _:
            assert_never(mount)
