"""What lasts longer than it should, or works only at the second try, works all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration import readers
from integration.faults import BreakOff, Fault, Refuse, faulty_proxy
from integration.programs import Build, said
from integration.registry_world import TokenService, token_registry
from integration.world import Registry

_DOCKERFILE = "FROM {base}\nRUN {run}\n"
_BUSY = (("Retry-After", "0"),)


def test_tokens_that_run_out_during_a_build_are_renewed(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    """The destination is asked before the build, and pushed to after it: with another token."""
    service = TokenService("me", "hunter2-hunter2", seconds=2, leeway=60)
    with token_registry(tmp_path / "registry", service) as address:
        build.fill({"Dockerfile": _DOCKERFILE.format(base=busybox, run="sleep 3; echo x > /x")})
        entry = {"username": "me", "password": "hunter2-hunter2"}
        done = build.programs.executor(
            *(f"--context={build.context}", f"--destination={address}/app:1", "--push-retry=0"),
            "--verbosity=trace",
            env={"DOCKER_AUTH_CONFIG": json.dumps({"auths": {address: entry}})},
        )
        manifest = readers.manifest(f"{address}/app:1")

    assert len(manifest["layers"]) == 2
    assert service.granted.count(("repository:app:pull,push",)) >= 2
    assert "hunter2" not in done.written


# --- pushes that are tried again ------------------------------------------------------------


class Twice:
    """Lets a fault happen to the first two requests of a kind."""

    def __init__(self, fault: Fault, method: str, path: str) -> None:
        self.fault, self.method, self.path = fault, method, path
        self.left = 2

    def __call__(self, method: str, path: str) -> Fault | None:
        """Return the fault, or None."""
        if not self.left or method != self.method or self.path not in path:
            return None
        self.left -= 1
        return self.fault


_PARTS = {
    "beginning of an upload": ("POST", "/blobs/uploads/"),
    "upload": ("PUT", "/blobs/uploads/"),
    "manifest": ("PUT", "/manifests/"),
}


@pytest.mark.parametrize("fault", [Refuse(503, _BUSY), Refuse(429, _BUSY), BreakOff()], ids=str)
@pytest.mark.parametrize("part", _PARTS)
def test_push_is_tried_again(
    build: Build, registry: Registry, busybox: str, part: str, fault: Fault
) -> None:
    faults = Twice(fault, *_PARTS[part])
    with faulty_proxy(registry.address, faults) as proxy:
        build.fill({"Dockerfile": _DOCKERFILE.format(base=busybox, run="echo x > /x")})
        name = build.image.partition("/")[2]
        build.programs.executor(
            *(f"--context={build.context}", f"--destination={proxy.address}/{name}"),
            # Each of the two faults may be of one blob, or of two.
            *("--push-retry=2", "--skip-push-permission-check"),
        )

    assert faults.left == 0
    assert "x" in readers.layers(build.image)[-1].names


@pytest.mark.parametrize("part", _PARTS)
def test_push_is_not_tried_again_unless_that_is_wanted(
    build: Build, registry: Registry, busybox: str, part: str
) -> None:
    faults = Twice(Refuse(503, _BUSY), *_PARTS[part])
    with faulty_proxy(registry.address, faults) as proxy:
        build.fill({"Dockerfile": _DOCKERFILE.format(base=busybox, run="echo x > /x")})
        name = build.image.partition("/")[2]
        done = build.programs.executor(
            *(f"--context={build.context}", f"--destination={proxy.address}/{name}"),
            *("--push-retry=0", "--skip-push-permission-check"),
            check=False,
        )
        put = [line for line in proxy.requests if line.startswith("PUT ") and "/manifests/" in line]

    said(done, f"cannot push to {proxy.address}", "answered 503")
    assert len(put) == (part == "manifest")
