"""Write the files of an image where ``--output`` says, and find out beforehand what will refuse.

    layers ─▶ merged.py ─▶ a tree of values ─┬─▶ local.py     a directory
                  └─ contents on disk ───────┴─▶ tar          a file, or standard output

Source: BuildKit's ``exporter/local`` and ``exporter/tar``, and Docker's page "Local and tar
exporters".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from kaniko_core.builder.export import merged
from kaniko_core.builder.export.kept import Content, Contents, open_contents
from kaniko_core.builder.export.local import Lost, write_files
from kaniko_core.builder.written import check_directory
from kaniko_core.errors import ContentError, DiskError, UsageError, disk_error, disk_errors
from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.atomic import replacing
from kaniko_core.oci.entry import Entry
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.tarheader import readable
from kaniko_core.options.exports import Export, ExportKind
from kaniko_core.progress import Noted, Progress, Warned

_FIFO_OR_DEVICE = os.O_WRONLY | os.O_CLOEXEC


def check(exports: Iterable[Export], stdout: BinaryIO | None = None) -> None:
    """Find out now what would fail after the build; directories are made.

    Args:
        exports: what is asked for.
        stdout: takes a tar, if not our own standard output.

    Raises:
        UsageError: two would go to the same place, or a tar to a terminal.
        DiskError: a file or directory cannot be written.
    """
    places: set[Path | None] = set()
    for export in exports:
        place = None if export.dest is None else export.dest.resolve()
        if place in places:
            shown = "standard output" if export.dest is None else str(export.dest)
            raise UsageError(f"two outputs go to {shown}", hint="name another place for one")
        places.add(place)
        if place is None:
            _check_stream(stdout or _standard_output())
        elif export.kind is ExportKind.LOCAL:
            check_directory(place, place)
        else:
            _check_file(place)


def export(
    exports: Sequence[Export],
    images: Sequence[Image],
    *,
    spool: Path,
    progress: Progress,
    platforms: Sequence[Platform | None] = (),
    epoch: int | None = None,
    stdout: BinaryIO | None = None,
) -> None:
    """Write the files of *images* to all of *exports*; each layer is read once.

    Everything is read before anything is written.

    Args:
        exports: as they were checked.
        images: of one target: one for each platform.
        spool: a directory whose disk has room for all files meanwhile.
        progress: is told what was written, and what could not be had.
        platforms: which each image was built for; where that is not known, its config says it.
        epoch: the time of all files, in seconds since 1970, if they are not to have their own.
        stdout: takes a tar, if not our own standard output.

    Raises:
        ContentError: a layer is damaged, or files of two platforms have the same name.
        LostLayer: a layer came from a cache, and is none; nothing was written.
        DiskError: the disk refused. Of a tar in a file, nothing is left.
    """
    if not exports:
        return
    with open_contents(spool) as contents:
        trees = [merged.merged(image, contents) for image in images]
        names = [
            str(platform or image.config.platform)
            for image, platform in zip_longest(images, platforms)
        ]
        contents.ready()
        for item in exports:
            root = _together(trees, names, split=item.split)
            found = merged.files(root, epoch)
            if item.dest is None:
                with _writing_to_stream():
                    _write_tar(found, contents, stdout or _standard_output())
                progress(Noted("wrote the files of the image to standard output"))
            elif item.kind is ExportKind.TAR:
                with _opened(item.dest) as file:
                    _write_tar(found, contents, file)
                progress(Noted(f"wrote the files of the image to {item.dest}"))
            else:
                lost = write_files(found, contents, item.dest)
                progress(Noted(f"wrote the files of the image into {item.dest}"))
                _complain(lost, item.dest, progress)


def _together(
    trees: Sequence[merged.Node], platforms: Sequence[str], *, split: bool | None
) -> merged.Node:
    """Return one tree of all platforms: each in its own directory, or all in one."""
    split = len(trees) > 1 if split is None else split
    root = merged.directory()
    if split:
        assert root.children is not None
        for platform, tree in zip(platforms, trees, strict=True):
            above = merged.directory()
            above.children = tree.children
            root.children[platform.replace("/", "_").encode()] = above
        return root
    if len(trees) == 1:
        return trees[0]
    for tree, platform in zip(trees, platforms, strict=True):
        _graft(root, tree, platform)
    return root


def _graft(root: merged.Node, tree: merged.Node, platform: str) -> None:
    def complain(path: bytes) -> ContentError:
        return ContentError(
            f"/{readable(path)} of {platform} has the name of another platform's file",
            hint="leave platform-split=false out, so that each platform has its own directory",
        )

    merged.graft(root, tree, complain)


def _write_tar(
    found: Iterator[tuple[Entry, Content | None]], contents: Contents, file: BinaryIO
) -> None:
    for chunk in tar_stream(_readable(found, contents)):
        file.write(chunk)
    file.flush()


def _readable(found: Iterator[tuple[Entry, Content | None]], contents: Contents) -> Iterator[Entry]:
    for entry, content in found:
        if content is not None:
            entry.content = partial(contents.open, content)
        yield entry


@contextmanager
def _writing_to_stream() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Who reads has had enough: not for us to tell them.
        raise
    except OSError as error:
        raise disk_error(error, "write the tar to", "standard output") from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the file *path*, which appears whole; a device or pipe is written to as it is."""
    with ExitStack() as stack:
        stack.enter_context(disk_errors("write", path))
        if path.exists() and not path.is_file():
            descriptor = os.open(path, _FIFO_OR_DEVICE)
            yield stack.enter_context(os.fdopen(descriptor, "wb"))
        else:
            # The file that a link leads to is replaced, never the link.
            yield stack.enter_context(replacing(path.resolve()))


def _complain(lost: Lost, directory: Path, progress: Progress) -> None:
    hint = "a tar has everything: --output type=tar"
    if lost.devices:
        progress(Warned(f"{directory} lacks device nodes: {_some(lost.devices)}", hint=hint))
    if lost.xattrs:
        names = _some(sorted(lost.xattrs))
        progress(Warned(f"files in {directory} lack extended attributes: {names}", hint=hint))
    if lost.identities:
        names = _some(lost.identities)
        progress(
            Warned(
                f"files in {directory} have another owner than in the image, and therefore no "
                f"set-user-ID or set-group-ID bit: {names}",
                hint=hint,
            )
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _standard_output() -> BinaryIO:
    if sys.stdout is None or sys.stdout.closed:
        raise UsageError(
            "standard output is closed", hint="name a file: --output type=tar,dest=FILE"
        )
    return sys.stdout.buffer


def _check_stream(stream: BinaryIO) -> None:
    if stream.isatty():
        raise UsageError(
            "a tar is not written to a terminal",
            hint="send it to a file or program, or name a file: --output type=tar,dest=FILE",
        )


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DiskError(
            f"cannot write {path}: it is a directory",
            hint="name a file, or write files with type=local",
        )
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK):
            raise DiskError(f"cannot write {path}: it is not writable", hint="name another place")
        return
    check_directory(path.parent, path)
