"""Our own images: what is in them, and that nothing outside of /kaniko matters to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration import images, readers
from integration.kaniko_images import (
    EPOCH,
    TARGETS,
    KanikoImages,
    dependencies_layout,
    kaniko_images,
)
from integration.readers import Podman
from integration.world import Registry
from tests.otlp_collector import running_collector

# Bytes; what is in it is written by deploy/collect.py. A third is what fetches contexts: git and
# ssh with their libraries (21 MB), of which TLS and Kerberos are most, and obstore (15 MB).
_LARGEST = 105_000_000

_PYTHON = ("/kaniko/bin/python3", "-ISB", "-c")
_CLOSED = ("--cgroups=disabled", "--log-driver=none", "--rm", "--network=host")


@pytest.fixture(scope="module")
def kaniko() -> KanikoImages:
    return kaniko_images()


@pytest.fixture
def executor(kaniko: KanikoImages, podman: Podman) -> str:
    return kaniko.load(podman, "executor")


@pytest.fixture
def debug(kaniko: KanikoImages, podman: Podman) -> str:
    return kaniko.load(podman, "debug")


def python(podman: Podman, image: str, program: str, *flags: str) -> str:
    """Run *program* with the interpreter of an image; both of its streams are returned."""
    both = f"import sys; sys.stderr = sys.stdout\n{program}"
    entry = f"--entrypoint={json.dumps(list(_PYTHON))}"
    return podman("run", *_CLOSED, entry, *flags, image, both)


def shell(podman: Podman, image: str, script: str, *flags: str) -> str:
    """Run *script* with the shell of the debug image; both of its streams are returned."""
    entry = f"--entrypoint={json.dumps(['/busybox/sh', '-c'])}"
    return podman("run", *_CLOSED, entry, *flags, image, f"({script}) 2>&1")


@pytest.mark.parametrize("target", ["executor", "warmer"])
def test_there_is_nothing_outside_of_kaniko(kaniko: KanikoImages, target: str) -> None:
    names = {
        name for layer in readers.layers(f"oci:{kaniko.layout(target)}") for name in layer.names
    }
    assert {name.partition("/")[0] for name in names} == {"kaniko", "var", "workspace"}
    # The license of boolean.py is in a directory of that name.
    code = [name for name in names if not name.startswith("kaniko/licenses/")]
    assert not [name for name in code if name.endswith((".py", ".pyi", "__pycache__"))]


def test_it_is_small(kaniko: KanikoImages) -> None:
    layers = readers.layers(f"oci:{kaniko.layout('executor')}")
    assert sum(m.size for layer in layers for m in layer.members.values()) < _LARGEST


def test_licenses_of_what_is_in_it_are_in_it(podman: Podman, debug: str) -> None:
    script = """
        cd /kaniko/licenses && ls && cat VERSIONS
        grep -l 'GNU Lesser' libc6 && grep -l 'Permission is hereby granted' rich
        grep -l 'GNU GENERAL PUBLIC' GPL-2 && grep -l 'Apache License' kaniko-py
    """
    words = set(shell(podman, debug, script).split())
    assert {"libc6", "libssl3", "python3.11-minimal", "ca-certificates", "httpx", "typer"} <= words
    assert {"rich", "busybox-static", "kaniko-py", "GPL-2"} <= words
    assert {"git", "openssh-client", "libcurl3-gnutls", "libnss-wrapper", "obstore"} <= words
    assert not {"patchelf", "pip", "bash", "perl-base"} & words


def test_executor_and_warmer_share_their_layers(kaniko: KanikoImages) -> None:
    """A pod with both downloads them once."""
    executor, warmer = (
        readers.manifest(f"oci:{kaniko.layout(target)}")["layers"]
        for target in ("executor", "warmer")
    )
    assert executor == warmer


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_where_there_is_nothing_else(
    kaniko: KanikoImages, podman: Podman, target: str
) -> None:
    program = "kaniko-warmer" if target == "warmer" else "kaniko-executor"
    assert f"Usage: {program}" in podman.run(kaniko.load(podman, target), "--help")


def test_no_file_from_elsewhere_is_mapped(podman: Podman, executor: str) -> None:
    program = """
import kaniko_core.builder.build, httpx, rich.live, socket, ssl
socket.getaddrinfo("localhost", 80)
for line in open("/proc/self/maps"):
    path = line.split(maxsplit=5)[5:]
    if path and path[0].startswith("/") and not path[0].startswith("/kaniko/"):
        print(path[0])
"""
    assert python(podman, executor, program) == ""


def test_configuration_of_the_image_under_construction_does_not_matter(
    podman: Podman, executor: str, tmp_path: Path
) -> None:
    """A base image may have any: libraries to preload, other ways to look up names."""
    files = {
        "/etc/ld.so.preload": "/lib/nowhere.so\n",
        "/etc/ld.so.cache": "rubbish",
        "/etc/nsswitch.conf": "hosts: nowhere\n",
        "/usr/lib/ssl/openssl.cnf": "openssl_conf = nowhere\n",
        "/usr/lib/ssl/cert.pem": "rubbish",
        "/usr/lib/python3/dist-packages/sitecustomize.py": "print('strange code')",
        "/kaniko.py": "print('strange code')",
    }
    flags = ["--add-host=somewhere:192.0.2.7", "--env=LANG=de_DE.UTF-8"]
    for number, (name, text) in enumerate(files.items()):
        (tmp_path / str(number)).write_text(text)
        flags.append(f"--volume={tmp_path / str(number)}:{name}:ro")
    program = """
import socket, ssl, sys
context = ssl.create_default_context()
print(socket.gethostbyname("somewhere"), len(context.get_ca_certs()) > 100, sys.flags.utf8_mode)
"""
    assert python(podman, executor, program, *flags) == "192.0.2.7 True 1\n"


def test_more_certificates_can_be_mounted(podman: Podman, executor: str, tmp_path: Path) -> None:
    import trustme

    (tmp_path / "own.crt").write_bytes(trustme.CA().cert_pem.bytes())
    program = """
from kaniko_core.registry.hosts import Trust, tls_context
print(any("trustme" in str(ca) for ca in tls_context(Trust()).get_ca_certs()))
"""
    volume = f"--volume={tmp_path / 'own.crt'}:/kaniko/ssl/certs/own.crt:ro"
    assert python(podman, executor, program) == "False\n"
    assert python(podman, executor, program, volume) == "True\n"


def test_debug_has_a_shell_where_others_look_for_it(podman: Podman, debug: str) -> None:
    assert "BusyBox" in shell(podman, debug, "command -v ls sed awk && busybox | head -n 1")


# --- KANIKO_DIR ----------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["", "--kaniko-dir=/new/home", "--kaniko-dir /new/home"])
def test_the_home_can_be_moved(podman: Podman, debug: str, tmp_path: Path, flags: str) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    (tmp_path / "config.json").write_text('{"auths": {"mounted": {}}}')
    script = f"""
        /kaniko/executor --no-push --oci-layout-path=/out {flags} || exit
        ls /out /new/home
        cat /new/home/.docker/config.json
    """
    written = shell(
        podman,
        debug,
        script,
        *(() if flags else ("--env=KANIKO_DIR=/new/home",)),
        f"--volume={tmp_path / 'config.json'}:/kaniko/.docker/config.json:ro",
        f"--volume={tmp_path}:/workspace:ro",
    )
    assert written.endswith('{"auths": {"mounted": {}}}')
    assert {"index.json", "executor", "lib", "ssl"} <= set(written.split())


def test_a_moved_home_needs_nothing_of_the_old_one(podman: Podman, debug: str) -> None:
    script = """
        KANIKO_DIR=/new /kaniko/executor version
        mkdir /old && mv /kaniko/lib /kaniko/bin /kaniko/ssl /kaniko/executor /old
        cd /new && set -- lib/ld*.so.*
        /new/$1 /new/bin/python3 -ISB -c '
import ssl, sys
from kaniko_core.home import home, interpreter
print(home(), interpreter()[0].startswith("/new/lib/ld"), sys.executable)
for line in open("/proc/self/maps"):
    path = line.split(maxsplit=5)[5:]
    if path and path[0].startswith("/") and not path[0].startswith("/new/"):
        print(path[0])
'
    """
    first, *rest = shell(podman, debug, script).splitlines()
    assert first.startswith("kaniko-py version")
    assert rest == ["/new True /new/bin/python3"]


def test_a_mounted_volume_stays_where_it_is(podman: Podman, debug: str) -> None:
    """A secret of Kubernetes is such a volume; the copy gets a link to it."""
    mount = "--mount=type=tmpfs,destination=/kaniko/.docker"
    script = """
        echo mounted >/kaniko/.docker/config.json
        KANIKO_DIR=/new /kaniko/executor version
        ls -l /new/.docker | sed 's/.*-> //'
        cat /new/.docker/config.json
    """
    assert shell(podman, debug, script, mount).splitlines()[1:] == ["/kaniko/.docker", "mounted"]


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("/", "it is above /kaniko"),
        ("/proc/new", "No such file or directory"),
        ("/read-only", "Read-only file system"),
        ("/dev/shm/new", "nothing can be executed there (mounted noexec)"),
        ("/small", "No space left on device"),
    ],
)
def test_where_it_cannot_move_a_sentence_says_so(
    podman: Podman, debug: str, directory: str, reason: str
) -> None:
    mounts = (
        "--mount=type=tmpfs,destination=/read-only,ro",
        "--mount=type=tmpfs,destination=/small,tmpfs-size=1m",
    )
    script = f"KANIKO_DIR={directory} /kaniko/executor version; echo $?"
    sentence, hint, status = shell(podman, debug, script, *mounts).splitlines()
    assert sentence == f"error: kaniko cannot be moved to {directory}: {reason}"
    assert hint.startswith("hint: ")
    assert status == "1"


# --- at work -------------------------------------------------------------------------------


def test_warmer_and_executor_share_a_volume(
    kaniko: KanikoImages,
    podman: Podman,
    registry: Registry,
    busybox: str,
    destination: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY Dockerfile /\n")
    cache = ("--volume=kaniko-cache:/cache",)
    context = f"--volume={tmp_path}:/workspace:ro"
    podman.run(kaniko.load(podman, "warmer"), "--image", busybox, flags=cache)
    registry.forget()
    arguments = ("--cache", f"--destination={destination}")
    podman.run(kaniko.load(podman, "executor"), *arguments, flags=(*cache, context))
    assert not [request for request in registry.requests() if request.fetches_blob]
    assert "Dockerfile" in readers.layers(destination)[-1].names


def test_the_executor_image_builds_itself(
    kaniko: KanikoImages, podman: Podman, executor: str, destination: str
) -> None:
    """In place, with a container's default rights: the same bytes as from a sandbox."""
    layouts = {"debian": images.debian_layout(), "dependencies": dependencies_layout()}
    podman.run(
        executor,
        *("--isolation=in-place", "--dockerfile=deploy/Dockerfile", "--target=executor"),
        *("--build-arg=BASE=debian", f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}"),
        *(f"--build-context={name}=oci-layout://{path}" for name, path in layouts.items()),
        f"--destination={destination}",
        flags=(
            f"--volume={kaniko.context}:/workspace:ro",
            *(f"--volume={path}:{path}:ro" for path in layouts.values()),
        ),
    )
    assert readers.digest(destination) == readers.digest(f"oci:{kaniko.layout('executor')}")


# --- what it is denied, and what it lacks ----------------------------------------------------

_HINTS = {
    "--user=1000": "run the container as root",
    "--cap-drop=ALL": "leave capabilities.drop out",
    "--cap-drop=SETUID,KILL": "KILL, SETUID",
    "--read-only": "with --kaniko-dir",
    "--read-only --tmpfs=/work --env=KANIKO_DIR=/work": "leave readOnlyRootFilesystem out",
    "--user=1000 --tmpfs=/work:mode=1777 --env=KANIKO_DIR=/work": "run the container as root",
}


@pytest.mark.parametrize("flags", _HINTS)
def test_what_a_build_in_place_is_denied_is_told_before_it_begins(
    podman: Podman, debug: str, busybox: str, tmp_path: Path, flags: str
) -> None:
    tmp_path.chmod(0o755)  # for any user
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN true\n")
    script = "executor --no-push --insecure-pull --isolation=in-place; echo $?"
    written = shell(podman, debug, script, f"--volume={tmp_path}:/workspace:ro", *flags.split())
    *before, sentence, hint, status = written.splitlines()
    assert not [line for line in before if "FROM" in line]
    assert sentence.startswith("error: ")
    assert hint.startswith("hint: ")
    assert _HINTS[flags] in sentence + hint
    assert status == "1"


def test_where_there_is_neither_sandbox_nor_place_both_are_told(
    podman: Podman, debug: str, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN true\n")
    volume = f"--volume={tmp_path}:/workspace:ro"
    script = "executor --no-push --insecure-pull"
    sentence, note, _ = shell(
        podman, debug, f"{script}; true", volume, "--cap-drop=ALL"
    ).splitlines()
    assert sentence.startswith("error: in-place mode takes capabilities that this container has")
    assert note.startswith("note: commands cannot be run in a sandbox: ")


def test_a_build_without_commands_needs_no_root_that_can_be_written(
    podman: Podman, debug: str, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nCOPY Dockerfile /bin/\n")
    flags = ("--read-only", "--tmpfs=/work", f"--volume={tmp_path}:/workspace:ro")
    script = """
        executor --no-push --insecure-pull --isolation=in-place --kaniko-dir=/work && ls -A /work
    """
    assert "in-place" not in shell(podman, debug, script, *flags).split()


def test_six_capabilities_are_enough(
    podman: Podman, debug: str, busybox: str, tmp_path: Path
) -> None:
    """Those that the hint and README name, for pods that drop all others."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {busybox}\nUSER web\nRUN sleep 600 & id -un\n"
        "USER root\nRUN touch /x && chown web /x && chmod 4755 /x && rm /etc/group\n"
    )
    flags = ("--cap-drop=ALL", "--cap-add=CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETGID,SETUID")
    script = "executor --no-push --insecure-pull --isolation=in-place"
    written = shell(podman, debug, script, f"--volume={tmp_path}:/workspace:ro", *flags)
    assert "web" in written.splitlines()


_OF_CLOUDS = """
import botocore.session, google.auth.transport.requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import aws, identity_pool, pluggable
from google.oauth2 import service_account

session = botocore.session.get_session()
for service in ("ecr", "sts"):
    print(session.create_client(service, region_name="eu-west-1").meta.endpoint_url)
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pem = key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
info = {"private_key": pem.decode(), "client_email": "a@b", "token_uri": "https://c/d"}
made = service_account.Credentials.from_service_account_info(info)
print(len(made.signer.sign(b"text")), "bytes of signature")

import obstore
from obstore.store import MemoryStore

store = MemoryStore()
obstore.put(store, "key", b"value")
print(bytes(obstore.get(store, "key").bytes()))
"""


def test_libraries_of_the_clouds_are_whole(podman: Podman, executor: str) -> None:
    """They have data, and machine code that imports by name."""
    written = python(podman, executor, _OF_CLOUDS)

    assert written.splitlines() == [
        "https://api.ecr.eu-west-1.amazonaws.com",
        "https://sts.eu-west-1.amazonaws.com",
        "256 bytes of signature",
        "b'value'",
    ]


def test_traces_leave_the_image(
    podman: Podman, executor: str, tmp_path: Path, registry: Registry, busybox: str
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nLABEL a=b\n")
    with running_collector() as collector:
        podman(
            *("run", *_CLOSED, f"--volume={tmp_path}:/workspace:ro"),
            f"--env=OTEL_EXPORTER_OTLP_ENDPOINT={collector.address}",
            executor,
            *("--no-push", "--insecure-pull"),
        )

    assert collector.only("build").error is None
