"""What a RUN costs in place, on the large base: ``python -m benchmarks.in_place``.

One build in a container of our own image, without any privilege. Its RUNs take turns: one walks
over the whole file system with ``find -printf``, the other changes one file. The price of the
second is all that its step takes: starting the command, finding what it changed, and what is left
of packing the layer before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from integration import images
from integration.container import EXECUTOR, running_container
from integration.readers import Podman

# What is mounted, and our own files, are left out. What find writes makes it look at every file.
_FIND = "find / -xdev -path /kaniko -prune -o -printf '%p %m %s %T@\\n'"
_TIMED = f"TIMEFORMAT='walked %R'; time {_FIND} > /dev/null"


def dockerfile(rounds: int) -> str:
    """Return what is built: *rounds* pairs of a walk and a change."""
    walk = json.dumps(["bash", "-c", _TIMED])
    pairs = (f"RUN {walk}\nRUN echo {number} > /etc/changed\n" for number in range(rounds))
    return f"FROM base\nRUN echo counted $({_FIND} | wc -l)\n" + "".join(pairs)


def measure(directory: Path, podman: Podman, rounds: int) -> tuple[list[float], list[float], int]:
    """Return the seconds of walks and of RUNs, and how many files were walked over."""
    context = directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile(rounds))
    with running_container(podman, directory, visible=directory) as container:
        done = container.run(
            *(EXECUTOR, "--isolation=in-place", "--log-format=json", "--no-push"),
            *(f"--context={context}", f"--build-context=base=oci-layout://{images.large_layout()}"),
        )
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    told = [e["msg"].split() for e in events if e["event"] == "output"]
    walks = [float(words[1]) for words in told if words[:1] == ["walked"]]
    [count] = [int(words[1]) for words in told if words[:1] == ["counted"]]
    steps = {e["number"]: e["seconds"] for e in events if e["event"] == "step_finished"}
    # Number 1 pays for unpacking; 2, 4, … walk; 3, 5, … change a file.
    runs = [steps[number] for number in range(3, 2 * rounds + 2, 2)]
    return walks, runs, count


def main() -> None:
    """Measure, and print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.in_place")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    if os.geteuid() != 0:
        parser.error("containers take root")
    with tempfile.TemporaryDirectory(prefix="kaniko-bench", dir="/var/tmp") as scratch:
        podman = Podman(Path(scratch) / "podman")
        try:
            directory = Path(scratch) / "build"
            directory.mkdir()
            walks, runs, count = measure(directory, podman, rounds)
        finally:
            podman.close()
    walk, run = statistics.median(walks), statistics.median(runs)
    print(f"{count} entries, {len(runs)} rounds, medians")
    print(f"find -printf            {walk:.3f} s")
    print(f"RUN that changes a file {run:.3f} s  ({run / walk:.2f})")


if __name__ == "__main__":
    main()
