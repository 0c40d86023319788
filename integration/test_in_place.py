"""Builds in place: on / of an unprivileged container of our own image, with Docker's defaults."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration import readers
from integration.compare import Image, differences, image_of_layout
from integration.container import EXECUTOR, Container, running_container
from integration.programs import Build, Finished, Programs, finished, said
from integration.readers import Podman
from integration.world import REPOSITORY, Registry
from kaniko_core.oci.platform import Platform

# A layout has its tag from there.
_NOT_PUSHED = ("--no-push", "--destination=localhost/built:latest")


@dataclass(frozen=True, slots=True)
class Site:
    """A build context, and a container to build it in."""

    container: Container
    directory: Path

    @property
    def context(self) -> Path:
        return self.directory / "context"

    def fill(self, dockerfile: str, **files: str) -> None:
        self.context.mkdir(exist_ok=True)
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            (self.context / name).write_text(text)

    def arguments(self, layout: str, *flags: str | Path) -> list[str | Path]:
        return [
            *(EXECUTOR, "--insecure", "--insecure-pull", f"--context={self.context}"),
            *(*_NOT_PUSHED, f"--oci-layout-path={self.directory / layout}", *flags),
        ]

    def build_in_sandbox(self, programs: Programs, layout: str, *flags: str) -> None:
        """Build the same on this machine."""
        programs.executor(
            *("--isolation=sandbox", f"--context={self.context}", *_NOT_PUSHED, *flags),
            f"--oci-layout-path={self.directory / layout}",
        )

    def build(self, layout: str = "layout", *flags: str | Path, check: bool = True) -> Finished:
        arguments = self.arguments(layout, "--isolation=in-place", *flags)
        return self.container.run(*arguments, check=check)

    def image(self, layout: str = "layout") -> Image:
        return image_of_layout(self.directory / layout)

    def root(self) -> str:
        """List what is in / of the container, but for the files of ours."""
        return self.container.shell(
            "find / -xdev -path /kaniko -prune -o -print | sort | xargs stat -c '%A %u %g %n'"
        ).stdout


@pytest.fixture
def site(container: Container, tmp_path: Path) -> Site:
    """A context, and the container that all tests share."""
    return Site(container, tmp_path)


@pytest.fixture
def make_site(podman: Podman, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start containers of the test's own: ``make_site("--volume=…")``."""
    with ExitStack() as stack:

        def make(*flags: str) -> Site:
            started = running_container(podman, tmp_path / "container", *flags, visible=tmp_path)
            return Site(stack.enter_context(started), tmp_path)

        yield make


_STAGES = """\
FROM {base} AS tools
RUN echo tool > /usr/bin/tool && chmod 755 /usr/bin/tool && rm /bin/vi
FROM {base}
WORKDIR /srv/app
COPY Dockerfile ./
RUN echo made > made && mkdir -p /etc/more && echo more > /etc/more/file && chmod 750 /etc/more
COPY --from=tools /usr/bin/tool /usr/bin/
RUN rm -r /home && ln -s /srv /home && /bin/cat /usr/bin/tool > tool
"""


# --- the same images as elsewhere, one after another ---------------------------------------


def test_image_is_that_of_a_sandbox_and_the_container_as_before(
    site: Site, programs: Programs, busybox: str
) -> None:
    site.fill(_STAGES.format(base=busybox))
    before = site.root()
    said_of_it = site.build().stderr
    after = site.root()
    site.build("again")
    site.build_in_sandbox(programs, "sandboxed")

    assert before == after
    assert "in place" in said_of_it
    assert differences(site.image("sandboxed"), site.image()) == {}
    assert differences(site.image(), site.image("again")) == {}


def test_debian_with_its_own_libc_and_loader(site: Site, debian: str, programs: Programs) -> None:
    """Every library that a Python of the machine would need is replaced under it."""
    site.fill(
        f"""FROM {debian} AS one
RUN rm -rf /usr/share/doc && useradd -m joe && ldd /bin/sh > /libraries
USER joe
RUN echo mine > ~/file; id > ~/id
FROM {debian}
COPY --from=one /home /home
RUN apt-get --version > /apt && ls -la /home > /listed
"""
    )
    site.build()
    site.build_in_sandbox(programs, "sandboxed")

    assert differences(site.image("sandboxed"), site.image()).keys() <= {"/listed"}


def test_base_without_shell_or_libraries(site: Site, busybox: str) -> None:
    site.fill(
        f"""FROM {busybox} AS tools
FROM scratch
COPY --from=tools /bin/busybox /busybox
RUN ["/busybox", "touch", "/touched"]
"""
    )
    site.build()

    assert {"/busybox", "/touched"} <= site.image().tree.keys()
    assert "/bin" not in site.image().tree


def test_stage_that_others_start_from_and_copy_from(
    site: Site, programs: Programs, busybox: str
) -> None:
    site.fill(
        f"""FROM {busybox} AS a
RUN echo a > /a
FROM a AS b
RUN echo b > /a && echo b > /b
FROM a AS c
RUN echo c >> /a
COPY --from=b /b /a /from-b/
FROM a
COPY --from=c / /c/
RUN cat /a /c/a /c/from-b/a > /all
"""
    )
    site.build()
    site.build_in_sandbox(programs, "sandboxed")

    assert site.image().tree["/all"].content == '"a\\na\\nc\\nb\\n"'
    assert differences(site.image("sandboxed"), site.image()) == {}


def test_file_of_another_stage_is_mounted(site: Site, programs: Programs, busybox: str) -> None:
    site.fill(
        f"""FROM {busybox} AS one
RUN mkdir /data && echo one > /data/file
FROM one
RUN --mount=from=one,source=/data/file,target=/data/file cat /data/file > /seen
RUN --mount=from=one,source=/data/file,target=/more,rw echo more >> /more && cat /more > /both
"""
    )
    site.build()
    site.build_in_sandbox(programs, "sandboxed")

    assert site.image().tree["/both"].content == '"one\\nmore\\n"'
    assert differences(site.image("sandboxed"), site.image()) == {}


@pytest.mark.parametrize("isolation", ["in-place", "sandbox"])
def test_single_snapshot_is_one_layer_of_everything(
    site: Site, programs: Programs, busybox: str, isolation: str
) -> None:
    site.fill(_STAGES.format(base=busybox))
    site.build("many")
    if isolation == "sandbox":
        site.build_in_sandbox(programs, "layout", "--single-snapshot")
    else:
        site.build("layout", "--single-snapshot")

    assert differences(site.image("many"), site.image()) == {}
    base = len(readers.layers(busybox))
    config = readers.config(f"oci:{site.directory / 'layout'}")
    assert len(config["rootfs"]["diff_ids"]) == base + 1
    layered = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(layered) == base + 1


@pytest.mark.parametrize("isolation", ["in-place", "sandbox"])
def test_ignored_paths_are_in_no_layer(
    site: Site, programs: Programs, busybox: str, isolation: str
) -> None:
    site.fill(
        f"""FROM {busybox}
RUN mkdir -p /logs /var/run && echo x > /logs/x && echo x > /var/run/x && ln /logs/x /kept
"""
    )
    flags = ["--ignore-path=/logs", "--ignore-var-run", "--snapshot-mode=time", "--use-new-run"]
    if isolation == "sandbox":
        site.build_in_sandbox(programs, "layout", *flags)
    else:
        site.build("layout", *flags)

    tree = site.image().tree
    assert tree["/kept"].content == '"x\\n"'
    assert not tree.keys() & {"/logs", "/logs/x", "/var/run", "/var/run/x"}


# --- mounts of the container ---------------------------------------------------------------


def test_mounts_are_neither_deleted_nor_part_of_the_image(
    make_site: Callable[..., Site], tmp_path: Path, debian: str
) -> None:
    """A service account, a device's read-only file, and a base whose /var/run is a link."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("secret")
    (tmp_path / "libgpu.so").write_text("gpu")
    site = make_site(
        f"--volume={account}:/var/run/secrets/kubernetes.io/serviceaccount:ro",
        f"--volume={tmp_path / 'libgpu.so'}:/usr/lib/libgpu.so:ro",
    )
    site.fill(
        f"""FROM {debian} AS one
RUN cat /var/run/secrets/kubernetes.io/serviceaccount/token /usr/lib/libgpu.so > /seen
FROM {debian}
COPY --from=one /seen /seen
RUN echo pid > /var/run/daemon.pid && rm -rf /usr/lib/locale; echo over > /run/over
"""
    )
    site.build()
    tree = site.image().tree

    assert tree["/seen"].content == '"secretgpu"'
    assert tree["/var/run"].content == "-> /run"
    assert tree["/run/daemon.pid"].content == '"pid\\n"'
    assert tree["/run/over"].content == '"over\\n"'
    assert not {"/usr/lib/libgpu.so", "/run/secrets", "/var/run/secrets"} & tree.keys()
    assert site.container.shell("cat /var/run/secrets/kubernetes.io/*/token").stdout == "secret"


def test_context_in_a_volume_where_the_image_has_files_too(
    make_site: Callable[..., Site], tmp_path: Path, busybox: str
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    site = make_site(f"--volume={volume}:/workspace")
    dockerfile = f"FROM {busybox}\nWORKDIR /workspace\nCOPY . .\nRUN cat file > /read\n"
    (volume / "Dockerfile").write_text(dockerfile)
    (volume / "file").write_text("text")
    volume.chmod(0o700)
    done = site.container.run(
        *(EXECUTOR, "--insecure", "--insecure-pull", "--isolation=in-place", *_NOT_PUSHED),
        *("--context=/workspace", f"--oci-layout-path={tmp_path / 'layout'}"),
    )
    tree = site.image().tree

    assert done.stderr.count("commands do not see what was copied to /workspace") == 1
    assert tree["/workspace"].kind_and_mode == "drwxr-xr-x"
    assert tree["/workspace/file"].content == tree["/read"].content == '"text"'
    assert sorted(path.name for path in volume.iterdir()) == ["Dockerfile", "file"]


# --- what happens to the container -----------------------------------------------------------


def test_files_of_the_last_stage_stay_if_they_are_asked_for(
    make_site: Callable[..., Site], busybox: str
) -> None:
    site = make_site()
    before = site.root()
    site.fill(f"FROM {busybox}\nRUN echo here > /here\n")
    site.build("layout", "--materialize")
    left = site.container.shell("cat /here; ls /bin/busybox").stdout
    site.build("again", "--cleanup")

    assert left == "here\n/bin/busybox\n"
    assert site.root() == before
    assert site.container.shell("ls /kaniko").stdout.split().count("in-place") == 0
    assert differences(site.image(), site.image("again")) == {}


def test_last_stage_is_left_though_only_another_one_runs_commands(
    make_site: Callable[..., Site], busybox: str
) -> None:
    site = make_site()
    site.fill(
        f"FROM {busybox} AS one\nRUN echo one > /one\n"
        "FROM scratch\nCOPY --from=one /one /bin/busybox /copied/\n"
    )
    site.build("layout", "--materialize")

    left = "/copied/busybox sh -c 'cat /copied/one; test ! -e /one && test ! -e /etc/passwd'"
    assert site.container.shell(left).stdout == "one\n"


def test_context_in_the_root_itself_is_refused(site: Site, busybox: str) -> None:
    site.fill(f"FROM {busybox}\nRUN true\n")
    dockerfile = f"--dockerfile={site.context / 'Dockerfile'}"
    done = site.build("layout", "--context=/", dockerfile, check=False)

    said(done, "named as the build context")


def test_what_was_there_is_put_back_or_removed_as_asked(
    make_site: Callable[..., Site], busybox: str
) -> None:
    site = make_site()
    site.container.shell("mkdir -p /mine/deep && echo kept > /mine/deep/file && chmod 700 /mine")
    site.fill(f"FROM {busybox}\nRUN test ! -e /mine && mkdir /mine && echo built > /mine/file\n")
    site.build()
    put_back = site.container.shell("cat /mine/deep/file; ls -a /mine").stdout
    site.build("layout", "--pre-cleanup", "--preserve-context")
    preserved = site.container.shell("cat /mine/deep/file").stdout
    site.build("layout", "--pre-cleanup")
    removed = site.container.shell("ls -d /mine", check=False).status

    assert put_back == "kept\n.\n..\ndeep\n"
    assert preserved == "kept\n"
    assert removed != 0


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_build_that_is_ended_leaves_a_container_to_build_in(
    make_site: Callable[..., Site], registry: Registry, busybox: str, signal: str
) -> None:
    site = make_site()
    site.container.shell("mkdir /mine && echo kept > /mine/file")
    before = site.root()
    site.fill(f"FROM {busybox}\nRUN rm -rf /bin/vi; echo begun > /begun; sleep 300\n")
    name = f"{registry.address}/ended/{signal.lower()}"
    command = " ".join(
        [
            f"{EXECUTOR} --isolation=in-place --insecure --insecure-pull",
            f"--context={site.context} --destination={name}:latest",
        ]
    )
    done = site.container.shell(
        f"""{command} & pid=$!
until test -e /begun; do sleep 0.1; done
start=$(date +%s); kill -{signal} $pid; wait $pid; status=$?
echo $(($(date +%s) - start)) $status
sleep 0.3; ps | grep -c '[s]leep 300'
""",
        check=False,
    )
    seconds, status, left = done.stdout.split()

    assert int(seconds) <= 5
    assert int(status) == {"TERM": 143, "KILL": 137}[signal]
    assert left == "0"
    if signal == "TERM":
        assert site.root() == before
    site.fill(f"FROM {busybox}\nRUN test ! -e /begun && test -e /bin/vi\n")
    site.build()
    assert site.root() == before
    assert not list(registry.storage.glob(f"**/repositories/ended/{signal.lower()}/_manifests"))


def test_build_that_is_ended_while_another_one_goes_on_never_begins(
    site: Site, tmp_path: Path, busybox: str
) -> None:
    """Both would be in the same root, also if they keep their files in different places."""
    site.fill(f"FROM {busybox}\nRUN touch /begun; sleep 6; test ! -e /second\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text(f"FROM {busybox}\nRUN touch /second; sleep 60\n")
    flags = "--isolation=in-place --insecure --insecure-pull --no-push"
    done = site.container.shell(
        f"""{EXECUTOR} {flags} --context={site.context} & first=$!
until test -e /begun; do sleep 0.1; done
{EXECUTOR} {flags} --context={other} --kaniko-dir={tmp_path}/moved 2> {tmp_path}/said & second=$!
until grep -q waiting {tmp_path}/said; do sleep 0.1; done
kill -TERM $second; wait $second; echo $?
kill -0 $first && wait $first; echo $?
"""
    )

    assert done.stdout.split() == ["143", "0"], done.written
    assert "RUN" not in (tmp_path / "said").read_text()


def test_daemons_are_ended_and_reaped(site: Site, busybox: str) -> None:
    site.fill(
        f"""FROM {busybox}
RUN setsid sh -c 'trap "" HUP TERM INT; while :; do echo t >> /ticks; sleep 0.05; done' & sleep 0.3
RUN cp /ticks /now; sleep 0.3; cmp /ticks /now; ps | grep -v ps > /processes
"""
    )
    site.build()

    assert "ticks" not in site.container.shell("ps").stdout
    assert " Z " not in site.container.shell("ps -o stat,args").stdout


# --- where it is refused, and what goes wrong ------------------------------------------------


def test_machine_is_not_wiped(build: Build, busybox: str) -> None:
    """This interpreter is the machine's own, container or not."""
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    for flags in ([], ["--force"]):
        done = build.programs.executor(
            *build.arguments, "--isolation=in-place", *flags, check=False
        )

        said(done, "in-place mode", "--isolation=sandbox")


def test_machine_that_is_no_container_is_named(programs: Programs, tmp_path: Path) -> None:
    """In a root without the marks of a container; nothing but its proc is mounted there."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nRUN true\n")
    root = tmp_path / "root"
    needed = f"{REPOSITORY} {sys.prefix} {sys.base_prefix} {tmp_path}"
    script = f"""
mount -t tmpfs tmpfs {root}
for name in usr lib lib64 bin etc {needed}; do
    test -d /$name || continue
    mkdir -p {root}/$name && mount --rbind -o ro /$name {root}/$name
done
mkdir -p {root}/proc {root}/var/tmp && mount --bind /proc {root}/proc
exec chroot {root} {sys.executable} -m kaniko_executor --isolation=in-place --no-push \
    --context={context} --kaniko-dir=/var/tmp/work
"""
    root.mkdir()
    done = finished(
        subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=programs.environment({}),
        ),
        check=False,
    )

    said(done, "would wipe the machine", "--isolation=sandbox", "--force")


def test_base_of_another_platform_is_told_with_both(site: Site) -> None:
    """A program of another processor is what the kernel does not know."""
    site.fill("FROM scratch\nCOPY Dockerfile.arm /bin/sh\nRUN true\n")
    (site.context / "Dockerfile.arm").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
    (site.context / "Dockerfile.arm").chmod(0o755)
    done = site.build("layout", "--custom-platform=linux/s390x", check=False)

    said(done, "linux/s390x", f"linux/{Platform.host().architecture}")


_FAILING = {
    "no shell": ("FROM scratch\nRUN true\n", "/bin/sh"),
    "no such user": ("FROM {base}\nUSER nobody-knows\nRUN true\n", "nobody-knows"),
    "status of the command": ("FROM {base}\nRUN exit 42\n", "exit status 42"),
    "no network": ("FROM {base}\nRUN --network=none true\n", "--network=none needs a sandbox"),
    "no program": ('FROM {base}\nRUN ["/nowhere"]\n', "/nowhere"),
    "mount in the way": (
        "FROM {base}\nRUN --mount=type=tmpfs,target=/proc/x true\n",
        "/proc",
    ),
}


@pytest.mark.parametrize("name", _FAILING)
def test_failing_build_is_told_and_leaves_no_trace(site: Site, busybox: str, name: str) -> None:
    dockerfile, words = _FAILING[name]
    before = site.root()
    site.fill(dockerfile.format(base=busybox))
    done = site.build(check=False)

    said(done, words)
    assert site.root() == before
    if "42" in words:
        assert done.status == 42


def test_full_disk_is_told_and_the_next_build_works(
    make_site: Callable[..., Site], busybox: str
) -> None:
    site = make_site("--tmpfs=/kaniko/small:size=8m")
    site.fill(f"FROM {busybox}\nRUN dd if=/dev/urandom of=/big bs=1M count=40\n")
    done = site.build("layout", "--kaniko-dir=/kaniko/small", check=False)

    said(done, "No space left")
    site.build("again")
    assert site.image("again").tree["/big"].kind_and_mode == "-rw-r--r--"


# --- a sandbox in a container ----------------------------------------------------------------


def test_sandbox_is_found_out_and_used_where_it_works(
    make_site: Callable[..., Site], tmp_path: Path, busybox: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    site = make_site("--security-opt=seccomp=unconfined", f"--volume={work}:/work")
    site.fill(f"FROM {busybox}\nRUN echo x > /x\n")
    arguments = site.arguments("layout", "--kaniko-dir=/work/kaniko")
    done = site.container.run(*arguments)

    assert "commands run in a sandbox" in done.stderr
    assert site.image().tree["/x"].content == '"x\\n"'


def test_auto_says_why_it_builds_in_place(site: Site, busybox: str) -> None:
    site.fill(f"FROM {busybox}\nRUN true\n")
    done = site.container.run(*site.arguments("layout"))

    (line,) = [line for line in done.stderr.splitlines() if "in place" in line]
    assert "commands cannot be run in a sandbox" in line


def test_sandbox_alone_is_refused_where_it_cannot_be(site: Site, busybox: str) -> None:
    site.fill(f"FROM {busybox}\nRUN true\n")
    done = site.container.run(*site.arguments("layout", "--isolation=sandbox"), check=False)

    said(done, "commands cannot be run in a sandbox")
