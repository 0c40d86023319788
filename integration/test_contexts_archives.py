"""Archives as contexts in real builds: from a file, from standard input, good and hostile."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from integration import readers
from integration.kaniko_images import KanikoImages
from integration.programs import Build, Finished, finished, said
from integration.readers import Podman

_SECONDS = 120.0
_SECRET = "what-only-the-host-may-read"
_COMPRESSIONS = {"tar": "", "tar.gz": "-z", "tar.zst": "--zstd", "tar.xz": "-J", "tar.bz2": "-j"}
_FILES = {
    ".dockerignore": "left\n**/*.o\n",
    "src/a.c": "int a;\n",
    "src/a.o": "object\n",
    "left/large": "x" * 100_000,
}
_KEPT = {"src", "src/a.c", "Dockerfile", ".dockerignore"}


@pytest.fixture
def dockerfile(busybox: str) -> str:
    """Copies the whole context."""
    return f"FROM {busybox}\nCOPY . /out/\n"


@pytest.fixture
def packed(build: Build, tmp_path: Path) -> Callable[..., Path]:
    """Pack files with GNU tar."""

    def pack(files: Mapping[str, str], suffix: str = "tar", name: str = "context") -> Path:
        place = Build(build.programs, tmp_path / f"{name}-files", "")
        place.fill(files)
        path = tmp_path / f"{name}.{suffix}"
        flags = [flag for flag in (_COMPRESSIONS[suffix],) if flag]
        subprocess.run(["tar", "c", *flags, "-f", path, "-C", place.context, "."], check=True)
        return path

    return pack


def out(build: Build) -> set[str]:
    """Return the names below ``/out`` of the image."""
    return set(readers.tree(build.image, "out")) - {"."}


def built(build: Build, archive: Path | str, *flags: str, check: bool = True) -> Finished:
    return build.programs.executor(
        f"--context=tar://{archive}", f"--destination={build.image}", *flags, check=check
    )


def fed(build: Build, source: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start a build whose standard input is the file or pipe *source*."""
    build.programs.work.mkdir(parents=True, exist_ok=True)
    return build.programs.start(
        "kaniko_executor",
        *("--context=tar://stdin", f"--destination={build.image}", *flags),
        *("--insecure", "--insecure-pull", f"--kaniko-dir={build.programs.work}"),
        prefix=["sh", "-c", 'exec "$@" < "$0"', str(source)],
    )


# --- from a file -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", _COMPRESSIONS)
def test_archive_of_each_compression_is_a_context(
    build: Build, dockerfile: str, packed: Callable[..., Path], suffix: str
) -> None:
    archive = packed({**_FILES, "Dockerfile": dockerfile}, suffix)
    # Its content says what it is, whatever its name.
    archive = archive.rename(archive.with_name("nameless"))

    built(build, archive)

    assert out(build) == _KEPT
    tree = readers.tree(build.image, "out")
    assert {(node.uid, node.gid) for name, node in tree.items() if name != "."} == {(0, 0)}
    assert build.programs.leftovers() == []


def test_directory_of_the_archive_is_the_context(
    build: Build, dockerfile: str, packed: Callable[..., Path]
) -> None:
    files = {f"app/{name}": text for name, text in {**_FILES, "Dockerfile": dockerfile}.items()}
    built(build, packed({**files, "other": "x"}), "--context-sub-path=app")

    assert out(build) == _KEPT


def test_dockerfile_has_patterns_of_its_own(build: Build, dockerfile: str, tmp_path: Path) -> None:
    """They come after .dockerignore has left something out that they want."""
    late = {"app.Dockerfile": dockerfile, "app.Dockerfile.dockerignore": "src\n"}
    (tmp_path / "c.tar").write_bytes(_archive({**_FILES, **late}))

    built(build, tmp_path / "c.tar", "--dockerfile=app.Dockerfile")

    own = {"app.Dockerfile", "app.Dockerfile.dockerignore"}
    assert out(build) == {".dockerignore", "left", "left/large", *own}


def test_named_context_is_an_archive(
    build: Build, busybox: str, packed: Callable[..., Path]
) -> None:
    archive = packed(_FILES, "tar.zst", "more")
    build(
        f"FROM {busybox}\nCOPY --from=more src /out/\n"
        "RUN --mount=from=more,target=/m ls /m/src > /l\n",
        f"--build-context=more=tar://{archive}",
    )

    assert {"a.c"} <= out(build)
    with readers.unpacked(build.image) as root:
        assert "a.c" in (root / "l").read_text().split()


# --- from standard input ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
def test_standard_input_is_a_context(
    build: Build, dockerfile: str, packed: Callable[..., Path], suffix: str
) -> None:
    archive = packed({**_FILES, "Dockerfile": dockerfile}, suffix)
    done = finished(fed(build, archive))

    assert done.status == 0
    assert out(build) == _KEPT
    assert build.programs.leftovers() == []


def test_files_are_unpacked_while_the_archive_arrives(
    build: Build, dockerfile: str, tmp_path: Path
) -> None:
    """What a slow client sends first is on disk before it sends the rest."""
    data = _archive({"Dockerfile": dockerfile, "first": "1", "last": "2"})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = fed(build, pipe)
    with pipe.open("wb", buffering=0) as client:
        half = data.index(b"last\0")
        for start in range(0, half, 700):
            client.write(data[start : min(start + 700, half)])
        _await(lambda: any(build.programs.work.rglob("first")), process)
        assert not any(build.programs.work.rglob("last"))
        client.write(data[half:])
    finished(process)

    assert out(build) == {"Dockerfile", "first", "last"}


def _await(fact: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not fact():
        assert process.poll() is None, finished(process, check=False).written
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_podman_feeds_a_container(
    build: Build,
    dockerfile: str,
    packed: Callable[..., Path],
    podman: Podman,
    kaniko_images: KanikoImages,
) -> None:
    archive = packed({**_FILES, "Dockerfile": dockerfile}, "tar.gz")
    image = kaniko_images.load(podman, "executor")
    with archive.open("rb") as stream:
        podman(
            *("run", "--interactive", "--rm", "--log-driver=none", "--cgroups=disabled"),
            *("--network=host", image, "--context=tar://stdin", "--insecure", "--insecure-pull"),
            f"--destination={build.image}",
            stdin=stream,
        )

    assert out(build) == _KEPT


def test_patterns_that_come_too_late_say_what_to_do(
    build: Build, dockerfile: str, tmp_path: Path
) -> None:
    late = {"app.Dockerfile": dockerfile, "app.Dockerfile.dockerignore": "src\n"}
    (tmp_path / "c.tar").write_bytes(_archive({**_FILES, **late}))

    done = finished(fed(build, tmp_path / "c.tar", "--dockerfile=app.Dockerfile"), check=False)

    said(done, "tar://stdin", "app.Dockerfile.dockerignore", "put it first")
    assert build.programs.leftovers() == []


@pytest.mark.parametrize(
    ("redirection", "words"), [("<&-", "it is closed"), ("</dev/null", "tar://stdin is empty")]
)
def test_standard_input_without_an_archive_is_one_sentence(
    build: Build, redirection: str, words: str
) -> None:
    process = build.programs.start(
        "kaniko_executor",
        *("--context=tar://stdin", f"--destination={build.image}"),
        f"--kaniko-dir={build.programs.directory}",
        prefix=["sh", "-c", f'exec "$@" {redirection}', "sh"],
    )
    said(finished(process, check=False), "tar://stdin", words)


# --- hostile archives ------------------------------------------------------------------------


def _archive(files: Mapping[str, str], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info in more:
            tar.addfile(info)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host's, which no image may have, and nobody may be told."""
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "secret").write_text(f"[{_SECRET}\n")
    return directory / "secret"


def _told(build: Build, done: Finished, secret: Path) -> bool:
    """Whether the secret of the host came out."""
    if _SECRET in done.written or secret.read_text() != f"[{_SECRET}\n":
        return True
    if done.status != 0:
        return False
    with readers.unpacked(build.image) as root:
        return any(
            _SECRET.encode() in path.read_bytes()
            for path in (root / "out").rglob("*")
            if path.is_file() and not path.is_symlink()
        )


@pytest.mark.parametrize(
    "line",
    [
        "COPY . /out/",
        "COPY file /out/",
        "COPY file/ /out/",
        "COPY up /out/",
        "COPY directory /out/",
        "COPY directory/ /out/",
        "COPY directory/secret /out/",
        "COPY directory/* /out/",
        "COPY through/deeper/secret /out/",
        "COPY dir*/sec* /out/",
        "ADD file /out/",
        "COPY --parents directory/./secret /out/",
        "RUN --mount=target=/m mkdir /out; cat /m/file /m/directory/secret /m/up >/out/f; true",
        "RUN --mount=source=directory,target=/m cp -r /m /out; true",
    ],
)
def test_copy_does_not_follow_links_out_of_the_context(
    build: Build, busybox: str, tmp_path: Path, secret: Path, line: str
) -> None:
    directory = secret.parent
    data = _archive(
        {"Dockerfile": f"FROM {busybox}\n{line}\n"},
        _link("file", str(secret)),
        _link("up", "../" * 40 + str(secret).lstrip("/")),
        _link("directory", str(directory)),
        _link("through", "directory"),
        _link("through/deeper", "../" * 40 + str(directory).lstrip("/")),
    )
    (tmp_path / "c.tar").write_bytes(data)

    done = built(build, tmp_path / "c.tar", check=False)

    assert not _told(build, done, secret)
    assert sorted(path.name for path in directory.iterdir()) == ["secret"]
    assert "Traceback" not in done.written
    assert build.programs.leftovers() == []


@pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"])
def test_files_that_are_read_are_not_the_hosts(
    build: Build, dockerfile: str, tmp_path: Path, secret: Path, name: str
) -> None:
    files = {"Dockerfile": dockerfile, "a": "a"}
    files.pop(name, None)
    (tmp_path / "c.tar").write_bytes(_archive(files, _link(name, str(secret))))

    done = built(build, tmp_path / "c.tar", check=False)

    assert not _told(build, done, secret)
    assert "Traceback" not in done.written


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (_link("../../escaped", "x"), "which could leave the root"),
        (_link("x", "../../escaped", tarfile.LNKTYPE), "which could leave the root"),
        (_link("x", "/etc/passwd", tarfile.LNKTYPE), "is a hard link to"),
        (_link(".wh.bin", "", tarfile.REGTYPE), "whiteout"),
    ],
)
def test_hostile_archive_is_one_sentence(
    build: Build, dockerfile: str, tmp_path: Path, hostile: tarfile.TarInfo, words: str
) -> None:
    path = tmp_path / "c.tar"
    path.write_bytes(_archive({"Dockerfile": dockerfile}, hostile))

    done = built(build, path, check=False)

    said(done, f"cannot unpack tar://{path}: ", words)
    assert build.programs.leftovers() == []
    assert not list(tmp_path.rglob("escaped"))


def test_devices_are_left_out_with_a_warning(build: Build, dockerfile: str, tmp_path: Path) -> None:
    path = tmp_path / "c.tar"
    device = _link("dev/sda", "", tarfile.BLKTYPE)
    device.devmajor = 8
    path.write_bytes(_archive({"Dockerfile": dockerfile}, device))

    done = built(build, path)

    assert out(build) == {"Dockerfile"}
    assert re.search(rf"warning: .*tar://{path}.*dev/sda", done.stderr)


def test_endless_compression_is_one_sentence(
    build: Build, dockerfile: str, packed: Callable[..., Path]
) -> None:
    archive = packed({"Dockerfile": dockerfile, "zeros": "\0" * (20 << 20)}, "tar.xz")
    assert archive.stat().st_size < 1 << 20

    done = built(build, archive, "--context-limit=10MiB", check=False)

    said(done, f"tar://{archive}", "more than 10 MiB", "--context-limit")
    assert build.programs.leftovers() == []
    built(build, archive, "--context-limit=30MiB")


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"FROM scratch\n", "is no tar archive"),
        (b"PK\x03\x04" + bytes(1000), "is a zip archive"),
        (b"Salted__" + bytes(1000), "is encrypted with openssl enc"),
        (b"<!DOCTYPE html>\n<html></html>", "is a web page"),
    ],
)
def test_what_is_no_archive_is_one_sentence(
    build: Build, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "c.tar"
    if content is not None:
        path.write_bytes(content)

    said(built(build, path, check=False), f"tar://{path}", words)
    assert build.programs.leftovers() == []


@pytest.mark.parametrize("suffix", _COMPRESSIONS)
def test_archive_that_ends_early_is_one_sentence(
    build: Build, dockerfile: str, packed: Callable[..., Path], suffix: str
) -> None:
    noise = os.urandom(200_000).hex()
    archive = packed({"Dockerfile": dockerfile, "noise": noise}, suffix)
    os.truncate(archive, archive.stat().st_size // 2)

    done = built(build, archive, check=False)

    said(done, f"cannot unpack tar://{archive}: ", "end")
    assert build.programs.leftovers() == []


_ON_A_SMALL_DISK = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


@pytest.mark.parametrize(
    ("suffix", "words"), [("tar", "MiB are free there"), ("tar.gz", "No space left on device")]
)
def test_disk_that_is_too_small_is_one_sentence(
    build: Build, dockerfile: str, packed: Callable[..., Path], suffix: str, words: str
) -> None:
    archive = packed({"Dockerfile": dockerfile, "zeros": "\0" * (20 << 20)}, suffix)
    build.programs.work.mkdir(parents=True)
    process = build.programs.start(
        "kaniko_executor",
        *(f"--context=tar://{archive}", f"--destination={build.image}", "--insecure-pull"),
        f"--kaniko-dir={build.programs.work}",
        prefix=(
            *("unshare", "--mount", "--propagation=private", "sh", "-c", _ON_A_SMALL_DISK),
            *("size=10m", str(build.programs.work)),
        ),
    )
    said(finished(process, check=False), str(build.programs.work), words)
