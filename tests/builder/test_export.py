"""The files of an image as a directory or a tar: what ``--output`` promises."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pty
import stat
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaniko_core.builder.export import writing
from kaniko_core.errors import ContentError, DiskError, UsageError
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.entry import SECOND, Entry, Kind
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, ImageConfig, MediaType
from kaniko_core.options import OutputOptions
from kaniko_core.options.exports import Export, ExportKind
from kaniko_core.progress import Event, Noted, Warned, silent
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.unpack import unpack
from tests.samples import BytesLayer

AMD64 = Platform("linux", "amd64")
ARM = Platform("linux", "arm", "v7")
ME = (os.geteuid(), os.getegid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners take root")
needs_another_user = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another takes root")


def file(name: bytes, data: bytes = b"", mode: int = 0o644, **fields: object) -> Entry:
    content = (lambda: io.BytesIO(data)) if data else None
    return Entry(name, Kind.FILE, mode, size=len(data), content=content, **fields)  # type: ignore[arg-type]


def folder(name: bytes, mode: int = 0o755, **fields: object) -> Entry:
    return Entry(name, Kind.DIRECTORY, mode, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> Entry:
    return Entry(name, Kind.SYMLINK, 0o777, link=target)


def hardlink(name: bytes, target: bytes) -> Entry:
    return Entry(name, Kind.HARDLINK, 0o644, link=target)


def whiteout(name: bytes) -> Entry:
    return Entry(name, Kind.WHITEOUT)


def blob(tar: bytes) -> BytesLayer:
    data = gzip.compress(tar, mtime=0)
    descriptor = Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(data), len(data))
    return BytesLayer(descriptor, Digest.of(tar), data)


def image(*layers: Sequence[Entry], platform: Platform = AMD64) -> Image:
    blobs = tuple(blob(b"".join(tar_stream(entries))) for entries in layers)
    return compose(ImageConfig(platform, created="2024-01-01T00:00:00Z"), blobs, docker=False)


class Exporting:
    """Exports images, and keeps what was said."""

    def __init__(self, directory: Path) -> None:
        self.spool = directory / "spool"
        self.spool.mkdir()
        self.events: list[Event] = []

    def __call__(self, exports: Sequence[Export], *images: Image, epoch: int | None = None) -> None:
        writing.export(exports, images, spool=self.spool, progress=self.events.append, epoch=epoch)

    def tar(self, *images: Image, split: bool | None = None, epoch: int | None = None) -> bytes:
        out = io.BytesIO()
        writing.export(
            [Export(ExportKind.TAR, None, split)],
            images,
            spool=self.spool,
            progress=self.events.append,
            epoch=epoch,
            stdout=out,
        )
        return out.getvalue()

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]


@pytest.fixture
def exporting(tmp_path: Path) -> Exporting:
    return Exporting(tmp_path)


def local(directory: Path, split: bool | None = None) -> list[Export]:
    directory.mkdir(exist_ok=True)
    return [Export(ExportKind.LOCAL, directory, split)]


def members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getmembers()


def names(tar: bytes) -> list[str]:
    return [member.name for member in members(tar)]


def content(tar: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        stream = archive.extractfile(name)
        assert stream is not None
        return stream.read()


# --- what is written ------------------------------------------------------------------------


def test_the_topmost_version_of_a_file_is_written(exporting: Exporting) -> None:
    tar = exporting.tar(
        image([folder(b"etc"), file(b"etc/motd", b"old")], [file(b"etc/motd", b"new one")])
    )
    assert names(tar) == ["etc", "etc/motd"]
    assert content(tar, "etc/motd") == b"new one"


def test_entries_are_sorted_below_their_directories(exporting: Exporting) -> None:
    """GNU tar sets a directory's time when it has left it, and not again."""
    tar = exporting.tar(
        image([file(b"b/z"), file(b"a-b"), file(b"b/a")], [file(b"a/x"), file(b"b.c")])
    )
    assert names(tar) == ["a", "a/x", "a-b", "b", "b/a", "b/z", "b.c"]


def test_same_files_in_other_layers_give_the_same_tar(exporting: Exporting) -> None:
    parts = [folder(b"d", 0o750), file(b"d/a", b"1"), file(b"d/b", b"2"), file(b"gone", b"x")]
    one = image([*parts[:3]])
    other = image(parts[:1], [parts[2], parts[3]], [parts[1], whiteout(b"gone")])
    assert exporting.tar(one) == exporting.tar(other)


def test_whiteouts_remove_and_are_not_written(exporting: Exporting) -> None:
    tar = exporting.tar(
        image(
            [file(b"a"), folder(b"d"), file(b"d/x"), folder(b"e"), file(b"e/old")],
            [whiteout(b"a"), whiteout(b"d"), file(b"e/new"), Entry(b"e", Kind.OPAQUE)],
        )
    )
    assert names(tar) == ["e", "e/new"]


def test_metadata_is_kept_in_a_tar(exporting: Exporting) -> None:
    moment = 1_600_000_000 * SECOND + 5
    entry = file(b"f", b"data", 0o4755, uid=70_000, gid=7, mtime_ns=moment)
    entry.xattrs[b"user.note"] = b"\0binary"
    device = Entry(b"null", Kind.CHARACTER, 0o666, device=(1, 3))
    (f, null) = members(exporting.tar(image([entry, device])))
    assert (f.mode, f.uid, f.gid) == (0o4755, 70_000, 7)
    assert f.pax_headers["mtime"] == "1600000000.000000005"
    assert f.pax_headers["SCHILY.xattr.user.note"].encode() == b"\0binary"
    assert (null.type, null.devmajor, null.devminor) == (tarfile.CHRTYPE, 1, 3)


def test_hard_links_stay_links_and_the_first_name_has_the_content(exporting: Exporting) -> None:
    linked = image([file(b"z", b"content"), hardlink(b"m", b"z"), hardlink(b"a", b"m")])
    tar = exporting.tar(linked)
    a, m, z = members(tar)
    assert a.isreg()
    assert (m.type, m.linkname) == (z.type, z.linkname) == (tarfile.LNKTYPE, "a")
    assert content(tar, "z") == b"content"


def test_a_name_of_a_file_survives_its_others(exporting: Exporting) -> None:
    tar = exporting.tar(image([file(b"a", b"x"), hardlink(b"b", b"a")], [whiteout(b"a")]))
    assert names(tar) == ["b"]
    assert content(tar, "b") == b"x"


def test_a_file_replaced_leaves_its_other_name_as_it_was(exporting: Exporting) -> None:
    tar = exporting.tar(image([file(b"a", b"x"), hardlink(b"b", b"a")], [file(b"a", b"new")]))
    assert (content(tar, "a"), content(tar, "b")) == (b"new", b"x")


def test_names_that_lead_through_links_go_where_they_lead(exporting: Exporting) -> None:
    tar = exporting.tar(
        image(
            [folder(b"usr"), folder(b"usr/lib"), symlink(b"lib", b"/usr/lib")],
            [file(b"lib/libc.so", b"elf")],
        )
    )
    assert names(tar) == ["lib", "usr", "usr/lib", "usr/lib/libc.so"]


def test_links_cannot_lead_out_of_the_root(exporting: Exporting) -> None:
    tar = exporting.tar(image([symlink(b"up", b"../../..")], [file(b"up/escaped", b"x")]))
    assert names(tar) == ["escaped", "up"]


def test_links_in_a_circle_are_refused(exporting: Exporting) -> None:
    with pytest.raises(ContentError, match="too many symbolic links"):
        exporting.tar(image([symlink(b"a", b"b"), symlink(b"b", b"a")], [file(b"a/x")]))


def test_a_hard_link_to_nothing_is_refused(exporting: Exporting) -> None:
    with pytest.raises(ContentError, match="/b is a hard link to /a, which is not there"):
        exporting.tar(image([hardlink(b"b", b"a")]))


def test_source_date_epoch_is_the_time_of_everything(exporting: Exporting) -> None:
    """BuildKit's docs/build-repro.md: the timestamp of files of both exporters."""
    tar = exporting.tar(image([file(b"d/f", b"x", mtime_ns=9 * SECOND)]), epoch=1234)
    assert {member.mtime for member in members(tar)} == {1234}


def test_sparse_files_have_their_holes(exporting: Exporting, tmp_path: Path) -> None:
    size = (1 << 20) + 3
    source = tmp_path / "source"
    with source.open("wb") as stream:
        stream.seek(400_000)
        stream.write(b"in the middle")
        stream.truncate(size)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    sparse = tmp_path / "sparse.tar"
    assert os.system(f"tar -C {tmp_path} --sparse --format=posix -cf {sparse} source") == 0
    layer = blob(sparse.read_bytes())
    config = ImageConfig(AMD64, created="2024-01-01T00:00:00Z")
    made = compose(config, (layer,), docker=False)

    exporting(local(tmp_path / "out"), made)
    written = tmp_path / "out" / "source"
    assert hashlib.sha256(written.read_bytes()).hexdigest() == expected
    assert written.stat().st_blocks * 512 < size / 2
    assert hashlib.sha256(content(exporting.tar(made), "source")).hexdigest() == expected


def test_damaged_layers_write_nothing(exporting: Exporting, tmp_path: Path) -> None:
    good = image([file(b"f", b"x")])
    layer = good.layers[0]
    assert isinstance(layer, BytesLayer)
    broken = BytesLayer(layer.descriptor, layer.diff_id, layer.data[:-1] + b"\xff")
    out = tmp_path / "out.tar"
    made = Image(good.raw_manifest, good.raw_config, (broken,))
    with pytest.raises(ContentError):
        exporting([*local(tmp_path / "d"), Export(ExportKind.TAR, out)], made)
    assert not out.exists()
    assert not list((tmp_path / "d").iterdir())
    assert not list(exporting.spool.iterdir())


# --- against what unpacks layers for real ---------------------------------------------------

_names = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)
_links = st.sampled_from([b"a", b"/b", b"b/c", b"../c", b".", b"/"])
_entries = st.one_of(
    st.builds(file, _names, st.binary(max_size=4)),
    st.builds(folder, _names, st.sampled_from([0o755, 0o700])),
    st.builds(symlink, _names, _links),
    st.builds(hardlink, _names, _names),
    st.builds(whiteout, _names),
    st.builds(lambda n: Entry(n, Kind.OPAQUE), _names),
)
_layers = st.lists(st.lists(_entries, max_size=6), min_size=1, max_size=3)


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """Describe a directory: hard links by the first name of the same file."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        what: object = None
        if path.is_symlink():
            what = str(path.readlink())
        elif path.is_file():
            what = path.read_bytes()
        same = first.setdefault(status.st_ino, name)
        found[name] = (status.st_mode, what, same)
    return found


@needs_root
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(_layers)
def test_files_are_those_that_unpacking_the_layers_gives(layers: list[list[Entry]]) -> None:
    made = image(*layers)
    with tempfile.TemporaryDirectory() as scratch:
        there, here = Path(scratch) / "unpacked", Path(scratch) / "exported"
        there.mkdir()
        here.mkdir()
        failed = None
        try:
            for layer in layers:
                tar = io.BytesIO(b"".join(tar_stream(layer)))
                unpack(tar, there, whiteouts=Whiteouts.APPLY)
        except (ContentError, DiskError) as error:
            failed = error
        try:
            writing.export(
                [Export(ExportKind.LOCAL, here)],
                [made],
                spool=Path(scratch),
                progress=lambda _: None,
            )
        except ContentError:
            assert failed is not None
            return
        assert failed is None
        assert seen(here) == seen(there)


# --- into a directory -----------------------------------------------------------------------


def test_directory_gets_modes_times_links_and_attributes(
    exporting: Exporting, tmp_path: Path
) -> None:
    moment = 1_500_000_000 * SECOND + 7
    tool = file(b"bin/tool", b"#!/bin/sh\n", 0o751, mtime_ns=moment)
    tool.xattrs[b"user.note"] = b"kept"
    target = tmp_path / "out"
    exporting(
        local(target),
        image(
            [
                folder(b"bin", 0o555, mtime_ns=moment),
                tool,
                hardlink(b"bin/same", b"bin/tool"),
                symlink(b"sh", b"/bin/tool"),
                Entry(b"pipe", Kind.FIFO, 0o622),
            ]
        ),
    )
    status = (target / "bin/tool").stat()
    assert stat.S_IMODE(status.st_mode) == 0o751
    assert status.st_mtime_ns == moment
    assert status.st_nlink == 2
    assert os.getxattr(target / "bin/tool", "user.note") == b"kept"
    assert stat.S_IMODE((target / "bin").stat().st_mode) == 0o555
    assert (target / "bin").stat().st_mtime_ns == moment
    assert (target / "sh").readlink() == Path("/bin/tool")
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    assert exporting.events == [Noted(f"wrote the files of the image into {target}")]


def test_files_belong_to_who_builds(exporting: Exporting, tmp_path: Path) -> None:
    target = tmp_path / "out"
    exporting(local(target), image([folder(b"d", uid=5, gid=6), file(b"d/f", b"x", uid=7, gid=8)]))
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in target.rglob("*")}
    assert owners == {ME}


def test_files_of_others_lose_the_right_to_run_as_them(
    exporting: Exporting, tmp_path: Path
) -> None:
    """A program of some user's that is ours now would run as us instead."""
    target = tmp_path / "out"
    theirs = file(b"theirs", b"x", 0o4755, uid=ME[0] + 5, gid=ME[1])
    ours = file(b"ours", b"x", 0o4755, uid=ME[0], gid=ME[1])
    exporting(local(target), image([theirs, ours]))
    assert stat.S_IMODE((target / "theirs").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "ours").stat().st_mode) == 0o4755
    (warning,) = exporting.warnings
    assert warning.endswith(": theirs")


def test_what_is_in_the_directory_already_stays(exporting: Exporting, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "d").mkdir(parents=True)
    (target / "d/mine").write_text("mine")
    (target / "d/f").write_text("old")
    exporting(local(target), image([folder(b"d"), file(b"d/f", b"new"), whiteout(b"d/mine")]))
    assert (target / "d/mine").read_text() == "mine"
    assert (target / "d/f").read_text() == "new"


def test_links_in_the_directory_are_replaced_and_not_followed(
    exporting: Exporting, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("untouched")
    target = tmp_path / "out"
    target.mkdir()
    (target / "d").symlink_to(outside)
    (target / "f").symlink_to(outside / "f")
    exporting(local(target), image([folder(b"d"), file(b"d/g", b"x"), file(b"f", b"new")]))
    assert {path.name for path in outside.iterdir()} == {"f"}
    assert (outside / "f").read_text() == "untouched"
    assert (target / "d/g").read_bytes() == b"x"
    assert not (target / "f").is_symlink()


def test_links_of_the_image_are_written_and_not_followed(
    exporting: Exporting, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "out"
    escaping = image([symlink(b"d", os.fsencode(outside))], [file(b"d/f", b"x")])
    exporting(local(target), escaping)
    assert not list(outside.iterdir())
    assert (target / str(outside).lstrip("/") / "f").read_bytes() == b"x"


def test_a_full_directory_is_not_replaced_by_a_file(exporting: Exporting, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "src").mkdir(parents=True)
    (target / "src/work.c").write_text("precious")
    with pytest.raises(DiskError, match="/src cannot be written: a directory of that name") as got:
        exporting(local(target), image([file(b"src", b"x")]))
    assert got.value.hint
    assert (target / "src/work.c").read_text() == "precious"


def test_writing_twice_gives_the_same(exporting: Exporting, tmp_path: Path) -> None:
    made = image(
        [folder(b"d", 0o500), file(b"d/f", b"x", 0o400), hardlink(b"g", b"d/f")],
        [symlink(b"l", b"d"), Entry(b"p", Kind.FIFO, 0o600), folder(b"empty")],
    )
    exporting(local(tmp_path / "out"), made)
    once = {name: what[:2] for name, what in seen(tmp_path / "out").items()}
    exporting(local(tmp_path / "out"), made)
    assert {name: what[:2] for name, what in seen(tmp_path / "out").items()} == once


def as_nobody(exporting: Exporting, exports: list[Export], made: Image) -> int:
    """Export as another user, in a process of its own; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            exporting(exports, made)
            status = len(exporting.warnings)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_another_user
def test_needs_no_privilege_and_says_what_it_could_not_make() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        top.chmod(0o755)
        exporting = Exporting(top)
        exports = local(top / "out")
        exporting.spool.chmod(0o777)
        (top / "out").chmod(0o777)
        capable = file(b"ping", b"x", 0o755)
        capable.xattrs[b"security.capability"] = bytes.fromhex(
            "0100000200200000000000000000000000000000"
        )
        made = image(
            [
                folder(b"root", 0o700),
                file(b"root/secret", b"x", 0o000),
                folder(b"closed", 0o000),
                file(b"closed/f", b"in a closed directory"),
                hardlink(b"open", b"closed/f"),
                Entry(b"null", Kind.CHARACTER, 0o666, device=(1, 3)),
                capable,
            ]
        )
        # One warning for the device, one for the attribute.
        assert as_nobody(exporting, exports, made) == 2
        assert (top / "out/root/secret").stat().st_uid == 65534
        assert (top / "out/open").read_bytes() == b"in a closed directory"
        assert not (top / "out/null").exists()


@needs_root
def test_root_makes_device_nodes(exporting: Exporting, tmp_path: Path) -> None:
    exporting(local(tmp_path / "out"), image([Entry(b"n", Kind.CHARACTER, 0o666, device=(1, 3))]))
    if exporting.warnings:
        pytest.skip("this root may make no device nodes")
    assert (tmp_path / "out/n").stat().st_rdev == os.makedev(1, 3)


def test_trees_deeper_than_directories_are_kept_open_are_written(
    exporting: Exporting, tmp_path: Path
) -> None:
    deep = b"/".join([b"d"] * 400)
    exporting(local(tmp_path / "out"), image([file(deep + b"/f", b"down here")]))
    tar = exporting.tar(image([file(deep + b"/f", b"down here")]))
    assert content(tar, (deep + b"/f").decode()) == b"down here"
    assert sum(1 for _ in os.walk(tmp_path / "out")) == 401


# --- several platforms ----------------------------------------------------------------------


def test_each_platform_has_its_own_directory(exporting: Exporting) -> None:
    tar = exporting.tar(
        image([file(b"f", b"one")]), image([file(b"f", b"two")], platform=ARM), epoch=5
    )
    assert names(tar) == ["linux_amd64", "linux_amd64/f", "linux_arm_v7", "linux_arm_v7/f"]
    assert content(tar, "linux_arm_v7/f") == b"two"
    assert {(m.mode, m.uid, m.mtime) for m in members(tar) if m.isdir()} == {(0o755, 0, 5)}


def test_directories_are_named_after_what_was_asked_for(exporting: Exporting) -> None:
    """Two platforms may have a base image of one: neither's files are lost."""
    out = exporting.spool.parent / "out"
    images = (image([file(b"f", b"one")]), image([file(b"f", b"two")]))
    writing.export(
        local(out), images, spool=exporting.spool, progress=silent, platforms=(AMD64, ARM)
    )
    assert [(out / name / "f").read_text() for name in ("linux_amd64", "linux_arm_v7")] == [
        "one",
        "two",
    ]


def test_one_platform_has_a_directory_where_that_is_asked_for(exporting: Exporting) -> None:
    assert names(exporting.tar(image([file(b"f")]), split=True)) == ["linux_amd64", "linux_amd64/f"]


def test_platforms_can_share_a_directory(exporting: Exporting, tmp_path: Path) -> None:
    one = image([folder(b"d"), file(b"d/amd64", b"1")])
    other = image([folder(b"d"), file(b"d/arm", b"2"), folder(b"e")], platform=ARM)
    target = tmp_path / "both"
    exporting([*local(target, split=False), *local(tmp_path / "split")], one, other)
    assert sorted(seen(target)) == ["d", "d/amd64", "d/arm", "e"]
    assert sorted(seen(tmp_path / "split")) == [
        *("linux_amd64", "linux_amd64/d", "linux_amd64/d/amd64"),
        *("linux_arm_v7", "linux_arm_v7/d", "linux_arm_v7/d/arm", "linux_arm_v7/e"),
    ]


def test_files_of_one_name_cannot_share_a_directory(exporting: Exporting) -> None:
    images = (image([file(b"d/f", b"1")]), image([file(b"d/f", b"2")], platform=ARM))
    with pytest.raises(ContentError, match="/d/f of linux/arm/v7 has") as got:
        exporting.tar(*images, split=False)
    assert "platform-split" in str(got.value.hint)


# --- into a file ----------------------------------------------------------------------------


def test_tar_appears_whole_or_not_at_all(exporting: Exporting, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    out.write_text("as it was")
    too_long = Entry(b"f/.wh.x", Kind.FILE, 0o644)  # cannot be stored: found when it is written
    made = image([folder(b"f")])
    tree = writing.merged.directory()
    assert tree.children is not None
    tree.children[b".wh.x"] = writing.merged.Node(too_long)
    with pytest.raises(ContentError), writing._opened(out) as stream:
        for chunk in tar_stream(entry for entry, _ in writing.merged.files(tree)):
            stream.write(chunk)
    assert out.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"out.tar", "spool"}
    exporting([Export(ExportKind.TAR, out)], made)
    assert names(out.read_bytes()) == ["f"]


def test_tar_replaces_what_a_link_leads_to(exporting: Exporting, tmp_path: Path) -> None:
    (tmp_path / "link.tar").symlink_to(tmp_path / "real.tar")
    exporting([Export(ExportKind.TAR, tmp_path / "link.tar")], image([file(b"f")]))
    assert (tmp_path / "link.tar").is_symlink()
    assert names((tmp_path / "real.tar").read_bytes()) == ["f"]


def test_a_pipe_is_written_to(exporting: Exporting, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    exports = [Export(ExportKind.TAR, pipe)]
    writing.check(exports)
    exporting(exports, image([file(b"f", b"x" * 100_000)]))
    reader.join()
    assert names(got[0]) == ["f"]


def test_several_outputs_read_each_layer_once(exporting: Exporting, tmp_path: Path) -> None:
    opened: list[bytes] = []

    def counted(data: bytes) -> io.BytesIO:
        opened.append(data)
        return io.BytesIO(data)

    made = image([file(b"f", b"x")])
    (layer,) = made.layers
    assert isinstance(layer, BytesLayer)
    counting = BytesLayer(layer.descriptor, layer.diff_id, layer.data, counted)
    made = Image(made.raw_manifest, made.raw_config, (counting,))
    exporting([*local(tmp_path / "d"), Export(ExportKind.TAR, tmp_path / "t")], made)
    assert len(opened) == 1
    assert (tmp_path / "d/f").read_bytes() == content((tmp_path / "t").read_bytes(), "f") == b"x"


# --- before the build -----------------------------------------------------------------------


def test_directories_are_made_before_the_build(tmp_path: Path) -> None:
    writing.check([Export(ExportKind.LOCAL, tmp_path / "a/b")])
    writing.check([Export(ExportKind.TAR, tmp_path / "c/d/out.tar")])
    assert (tmp_path / "a/b").is_dir()
    assert (tmp_path / "c/d").is_dir()


@pytest.mark.parametrize("kind", ExportKind)
def test_what_cannot_be_written_is_refused_before_the_build(
    kind: ExportKind, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    wrong = tmp_path / ("file" if kind is ExportKind.LOCAL else "directory")
    with pytest.raises(DiskError) as got:
        writing.check([Export(kind, wrong)])
    assert str(wrong) in str(got.value)


def test_a_tar_is_not_written_to_a_terminal() -> None:
    controller, terminal = pty.openpty()
    with (
        os.fdopen(controller, "rb"),
        os.fdopen(terminal, "wb") as stream,
        pytest.raises(UsageError, match="not written to a terminal") as got,
    ):
        writing.check([Export(ExportKind.TAR, None)], stream)
    assert "dest=FILE" in str(got.value.hint)


@pytest.mark.parametrize("dest", [None, Path("same")])
def test_two_outputs_to_one_place_are_refused(
    dest: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="two outputs go to"):
        writing.check([Export(ExportKind.TAR, dest)] * 2, io.BytesIO())


def test_a_full_disk_is_told_of_and_leaves_no_tar(exporting: Exporting) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with pytest.raises(DiskError, match="cannot write /dev/full: No space left"):
        exporting([Export(ExportKind.TAR, Path("/dev/full"))], image([file(b"f", b"x" * 200_000)]))


# --- what --output says ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out", Export(ExportKind.LOCAL, Path("out"))),
        ("./a b/c", Export(ExportKind.LOCAL, Path("a b/c"))),
        ("-", Export(ExportKind.TAR, None)),
        ("type=local,dest=out", Export(ExportKind.LOCAL, Path("out"))),
        ("type=tar", Export(ExportKind.TAR, None)),
        ("type=tar,dest=-", Export(ExportKind.TAR, None)),
        ("dest=a=b.tar, type=tar", Export(ExportKind.TAR, Path("a=b.tar"))),
        ('type=local,"dest=a,b"', Export(ExportKind.LOCAL, Path("a,b"))),
        (
            "type=local,dest=o,platform-split=false",
            Export(ExportKind.LOCAL, Path("o"), split=False),
        ),
        ("type=tar,platform-split=1", Export(ExportKind.TAR, None, split=True)),
    ],
)
def test_is_read_as_buildx_reads_it(text: str, expected: Export) -> None:
    assert Export.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not say where to"),
        ("type=local", "does not say where to"),
        ("type=local,dest=-", "cannot be written to standard output"),
        ("type=local,dest=", "does not say where to"),
        ("dest=x", "has no type"),
        ("type=zip,dest=x", "no output of type 'zip'"),
        ("type=tar,type=local", "says type twice"),
        ("type=local,dest", "is not KEY=VALUE"),
        ("a,b", "is not KEY=VALUE"),
        ("type=local,dest=x,mode=copy", "mode has no meaning for type=local"),
        ("type=local,dest=x,platform-split=perhaps", "neither true nor false"),
        ('type=local,"dest=x', "out"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as got:
        Export.parse(text)
    if message != "out":
        assert message in str(got.value)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("type=registry,name=r.io/a:1", "--destination=r.io/a:1"),
        ("type=image,name=r.io/a:1,push=true", "--destination=r.io/a:1"),
        ("type=image,name=a", "--oci-layout-path or --tar-path"),
        ("type=docker,dest=i.tar", "--tar-path=i.tar"),
        ("type=oci,dest=o,tar=false", "--oci-layout-path=o"),
        ("type=oci,dest=o.tar", "--oci-layout-path=DIRECTORY, and pack it"),
        ("type=cacheonly", "--no-push"),
        ("type=tar,attestation-prefix=x", "--destination"),
    ],
)
def test_outputs_of_images_are_refused_and_the_flag_for_them_named(text: str, instead: str) -> None:
    with pytest.raises(UsageError) as got:
        Export.parse(text)
    assert instead in str(got.value.hint)


def test_an_output_of_files_is_enough_to_build_for() -> None:
    OutputOptions(output=(Export.parse("-"),)).require_destination()
    with pytest.raises(UsageError, match="nowhere to push"):
        OutputOptions().require_destination()


def test_what_is_written_is_known_to_a_build_in_place() -> None:
    """It clears the root, and must leave these alone."""
    output = OutputOptions(output=(Export.parse("out"), Export.parse("-")))
    assert output.written == (Path("out"),)
