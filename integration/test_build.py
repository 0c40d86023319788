"""Whole builds, checked by what other people's tools make of the images."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from integration import readers
from integration.programs import Build, Programs
from integration.readers import Podman
from integration.world import REPOSITORY


def test_program_compiled_after_apt_runs_as_its_user(
    programs: Programs, debian: str, busybox: str, destination: str, podman: Podman
) -> None:
    """The example: gcc from apt in one stage, its result in another, run by podman."""
    programs.executor(
        *("--context", REPOSITORY / "examples" / "almanac", "--destination", destination),
        *("--build-arg", f"DEBIAN={debian}", "--build-arg", f"BUSYBOX={busybox}"),
    )

    assert podman.run(destination, "3") == "user 1000: Measure twice, cut once.\n"
    assert readers.config(destination)["config"]["User"] == "1000:1000"
    below = readers.tree(destination, "usr/share/almanac")
    assert (below["sayings.txt"].uid, below["sayings.txt"].gid) == (1000, 1000)
    assert readers.tree(destination, "usr/bin")["almanac"].mode == 0o755
    assert programs.leftovers() == []


def test_base_layers_are_kept_as_they_are(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN echo new > /new\n")

    base, built = readers.manifest(busybox), readers.manifest(build.image)
    assert built["layers"][:-1] == base["layers"]
    assert built["mediaType"] == base["mediaType"]
    above = readers.layers(build.image)[-1]
    assert above.names == {"new"}
    history = readers.config(build.image)["history"]
    filled = [entry for entry in history if not entry.get("empty_layer")]
    assert len(filled) == len(built["layers"])


def test_every_configuring_instruction_reaches_the_config(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
ARG VERSION=1
ENV A=1 B="two words" C=$VERSION
ENV PATH=$PATH:/opt/bin
WORKDIR /srv
WORKDIR app
USER web
LABEL one=1 "two"="2 2"
EXPOSE 80 53/udp
VOLUME ["/data", "/logs"]
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-e", "-c"]
ENTRYPOINT ["/bin/echo", "entry"]
CMD cmd
""",
        "--build-arg=VERSION=7",
    )

    config = readers.config(build.image)["config"]
    assert config["Env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin",
        "A=1",
        "B=two words",
        "C=7",
    ]
    assert config["WorkingDir"] == "/srv/app"
    assert config["User"] == "web"
    assert config["Labels"] == {"one": "1", "two": "2 2"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert set(config["Volumes"]) == {"/data", "/logs"}
    assert config["StopSignal"] == "SIGINT"
    assert config["Entrypoint"] == ["/bin/echo", "entry"]
    assert config["Cmd"] == ["/bin/sh", "-e", "-c", "cmd"]


def test_entrypoint_and_command_run_where_the_image_says(
    build: Build, busybox: str, podman: Podman
) -> None:
    build(
        f"""FROM {busybox}
ENV GREETING=hello
WORKDIR /srv/app
USER web
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $GREETING $(id -un) $PWD"]
"""
    )

    assert podman.run(build.image) == "hello web /srv/app\n"


def test_run_sees_arguments_environment_user_and_directory(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
ARG VERSION
ENV GREETING=hello
WORKDIR /work
RUN chown web:web .
USER web
RUN echo "$VERSION $GREETING $(id -u):$(id -g) $PWD $HOME" > seen
RUN ["/bin/sh", "-c", "echo exec > exec"]
""",
        "--build-arg=VERSION=7",
    )

    with readers.unpacked(build.image) as root:
        assert (root / "work/seen").read_text() == "7 hello 1234:2345 /work /home\n"
        assert (root / "work/seen").stat().st_uid == 1234
        assert (root / "work/exec").read_text() == "exec\n"


def test_build_arguments_do_not_stay_in_the_config(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nARG TOKEN\nRUN true\n", "--build-arg=TOKEN=s3cret")

    assert "s3cret" not in str(readers.config(build.image)["config"])


def test_removed_files_become_whiteouts(build: Build, busybox: str, podman: Podman) -> None:
    build(f"FROM {busybox}\nRUN rm /bin/vi && rm -r /home && rm /etc/group\n")

    assert readers.layers(build.image)[-1].names >= {"bin/.wh.vi", ".wh.home", "etc/.wh.group"}
    listing = podman.run(
        build.image, "sh", "-c", "ls -d /bin/vi /home /etc/group /bin/ls 2>&1; true"
    )
    assert "/bin/vi: No such file" in listing
    assert "/home: No such file" in listing
    assert "/etc/group: No such file" in listing
    assert "\n/bin/ls\n" in "\n" + listing


def test_directory_made_anew_hides_what_was_in_it(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir /d && echo old > /d/old && echo kept > /d/kept
RUN rm -r /d && mkdir /d && echo new > /d/new
"""
    )

    assert sorted(readers.tree(build.image, "d")) == ["new"]


def test_removed_in_the_same_run_leaves_no_trace(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN echo x > /tmp/x && rm /tmp/x && echo y > /y\n")

    names = readers.layers(build.image)[-1].names
    assert "y" in names
    assert not [name for name in names if name.endswith("x")]


# setxattr by number, for Debian's smallest image has Perl but no setcap: x86_64 and arm64 differ.
_CAPABLE = """\
RUN perl -e '($path, $name) = ("/busybox-able", "security.capability"); \
  $value = pack("V5", 0x02000001, 0x400, 0, 0, 0); \
  $number = `uname -m` =~ /x86_64/ ? 188 : 5; \
  syscall($number, $path, $name, $value, length $value, 0) == 0 or die "setxattr: $!"'
"""


def test_file_capabilities_work_in_the_image(
    build: Build, debian: str, busybox: str, podman: Podman
) -> None:
    """CAP_NET_BIND_SERVICE (bit 10), set in a RUN and copied to another stage, is in force."""
    build(
        f"""FROM {busybox} AS tools
FROM {debian} AS made
COPY --from=tools /bin/busybox /busybox-able
{_CAPABLE}
FROM {busybox}
COPY --from=made /busybox-able /bin/
"""
    )

    member = readers.layers(build.image)[-1].members["bin/busybox-able"]
    assert "SCHILY.xattr.security.capability" in member.pax_headers
    status = podman.run(
        build.image, "/bin/busybox-able", "cat", "/proc/self/status", flags=("--user=web",)
    )
    assert "CapEff:\t0000000000000400" in status


def test_hard_links_stay_hard_links(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN mkdir /l && echo text > /l/a && ln /l/a /l/b && ln /l/a /l/c\n")

    members = readers.layers(build.image)[-1].members
    assert sum(members[f"l/{name}"].islnk() for name in "abc") == 2
    with readers.unpacked(build.image) as root:
        assert (root / "l/a").stat().st_nlink == 3


def test_image_from_scratch_holds_nothing_else(build: Build, busybox: str, podman: Podman) -> None:
    build(
        f"""FROM {busybox} AS tools
FROM scratch
COPY --from=tools /bin/busybox /busybox
ENTRYPOINT ["/busybox"]
CMD ["echo", "from scratch"]
"""
    )

    assert podman.run(build.image) == "from scratch\n"
    assert [layer.names for layer in readers.layers(build.image)] == [{"busybox"}]
    assert readers.manifest(build.image)["mediaType"].startswith("application/vnd.oci.")


def test_stages_that_need_nothing_of_each_other_run_side_by_side(
    build: Build, busybox: str
) -> None:
    """One stage waits for a word that only the other can send: in turns, neither would end.

    The listener's input never ends: busybox's nc would tell the other side of its end, which
    could then hang up before it has said anything.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    build(
        f"""FROM {busybox} AS listens
RUN mkfifo /silent && timeout 60 nc -l -p {port} <> /silent > /heard
FROM {busybox} AS speaks
RUN for i in $(seq 150); do echo hello | nc 127.0.0.1 {port} && exit 0; sleep 0.2; done; exit 1
FROM {busybox}
COPY --from=listens /heard /heard
COPY --from=speaks /etc/passwd /spoken
"""
    )

    with readers.unpacked(build.image) as root:
        assert (root / "heard").read_text() == "hello\n"


_TWO_TARGETS = """FROM {base} AS first
LABEL which=first
FROM {base} AS broken
RUN exit 9
FROM {base} AS third
LABEL which=third
"""


def test_target_names_the_stage_to_build(build: Build, busybox: str) -> None:
    build(_TWO_TARGETS.format(base=busybox), "--target=first")

    assert readers.config(build.image)["config"]["Labels"] == {"which": "first"}


def test_stages_that_the_target_does_not_need_are_not_built(build: Build, busybox: str) -> None:
    build(_TWO_TARGETS.format(base=busybox))

    assert readers.config(build.image)["config"]["Labels"] == {"which": "third"}


def test_stage_can_be_the_base_of_another(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox} AS first
ENV FROM_FIRST=yes
RUN echo first > /first
FROM first
RUN echo "$FROM_FIRST" > /second
"""
    )

    with readers.unpacked(build.image) as root:
        assert (root / "first").read_text() == "first\n"
        assert (root / "second").read_text() == "yes\n"


def test_device_nodes_and_pipes_of_a_run_are_kept(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN mkdir /n && mkfifo /n/pipe && ln -s ../etc /n/link\n")

    nodes = readers.tree(build.image, "n")
    assert nodes["pipe"].kind == "p"
    assert (nodes["link"].kind, nodes["link"].content) == ("l", "../etc")


def test_mounts_and_files_made_for_running_do_not_reach_the_image(
    build: Build, busybox: str
) -> None:
    """RUN sees /proc, /dev and a resolv.conf of this machine; the image gets none of it."""
    build(f"FROM {busybox}\nRUN test -e /proc/self && test -c /dev/null && echo x > /dev/null\n")

    above = readers.layers(build.image)
    base = readers.layers(busybox)
    extra = [name for layer in above[len(base) :] for name in layer.names]
    assert not [name for name in extra if name.startswith(("proc/", "dev/", "sys/"))]
    assert "etc/resolv.conf" not in extra


def test_same_inputs_give_the_same_layers(build: Build, busybox: str) -> None:
    """Directories that WORKDIR and COPY have to make are as old as what they are made in."""
    dockerfile = f"FROM {busybox}\nWORKDIR /w/x\nCOPY a b y/\nCOPY d /new/home/\n"
    files = {"a": "a", "b": "b", "d/one": "1", "d/two": "2"}
    build(dockerfile, files=files)
    first = readers.manifest(build.image)["layers"]
    time.sleep(1.1)  # times in layers are whole seconds
    build(dockerfile)

    assert readers.manifest(build.image)["layers"] == first


def test_context_is_not_touched(build: Build, busybox: str) -> None:
    def state() -> list[tuple[str, float]]:
        return sorted((str(path), path.lstat().st_mtime) for path in build.context.rglob("*"))

    build.fill({"Dockerfile": f"FROM {busybox}\nCOPY . /c/\nRUN rm -r /c\n", "a": "a"})
    before = state()
    build.programs.executor(*build.arguments)

    assert state() == before


def test_builds_without_home_and_with_another_umask(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nWORKDIR /w\nCOPY a /w/a\n", "a": "a"})
    (build.context / "a").chmod(0o644)
    before = os.umask(0o077)
    try:
        build.programs.executor(*build.arguments, env={"HOME": ""})
    finally:
        os.umask(before)

    nodes = readers.tree(build.image)
    assert nodes["w"].mode == 0o755
    assert nodes["w/a"].mode == 0o644


def test_dockerfile_can_lie_outside_the_context(build: Build, busybox: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.Dockerfile"
    elsewhere.write_text(f"FROM {busybox}\nCOPY a /a\n")
    build.fill({"a": "a"})
    build.programs.executor(*build.arguments, "--dockerfile", elsewhere)

    assert "a" in readers.layers(build.image)[-1].names


def test_run_comes_from_the_machines_network(build: Build, busybox: str) -> None:
    """Names resolve in RUN as they do on this machine: /etc/hosts has localhost."""
    build(f"FROM {busybox}\nRUN ping -c1 -W2 localhost > /dev/null || grep localhost /etc/hosts\n")


def test_command_may_not_end_its_own_namespace_by_interrupting_process_one(
    build: Build, busybox: str
) -> None:
    done = build(f"FROM {busybox}\nRUN kill -INT 1; kill -TERM 1; sleep 0.2; echo still here\n")

    assert "still here" in done.stderr


def test_layer_that_cannot_be_packed_names_its_instruction(build: Build, busybox: str) -> None:
    """Packing goes on behind the instructions that follow."""
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN touch /.wh.no\nRUN true\n"})
    done = build.programs.executor(*build.arguments, check=False)

    assert done.status == 1
    assert "Dockerfile:2: in stage stage-0: RUN touch /.wh.no" in done.stderr
    assert "Traceback" not in done.stderr
