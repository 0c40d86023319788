"""The files that an image's layers make together, as a tree of values.

Layers are read from the bottom up, each once, as streams. Metadata is in memory, a few hundred
bytes for a file; contents are on disk (``kept.py``). Nothing is unpacked, so that whoever runs
this needs no rights, and names cannot lead anywhere.

Source: OCI image-spec v1.1, layer.md, "Applying Changesets".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kaniko_core.builder.export.kept import Content, Contents
from kaniko_core.errors import ContentError
from kaniko_core.oci.entry import SECOND, Entry, Kind
from kaniko_core.oci.image import Image
from kaniko_core.oci.layer import open_tar
from kaniko_core.oci.tarheader import readable
from kaniko_core.oci.tarreader import TarReader

# As many as Linux follows before it gives up.
_MOST_LINKS = 40
_IMPLIED_MODE = 0o755


class Node:
    """A file, under however many names, or a directory with what is in it.

    Attributes:
        entry: what it is like; its name and link mean nothing any more, but for symbolic links.
        content: of a regular file that is not empty.
        children: of a directory, by name.
        linked: it has, or once had, several names.
    """

    __slots__ = ("children", "content", "entry", "linked")

    def __init__(self, entry: Entry, content: Content | None = None) -> None:
        self.entry = entry
        self.content = content
        self.children: dict[bytes, Node] | None = {} if entry.kind is Kind.DIRECTORY else None
        self.linked = False


def directory(mode: int = _IMPLIED_MODE) -> Node:
    """Return a new, empty directory of root's, as old as time."""
    return Node(Entry(b"", Kind.DIRECTORY, mode))


def merged(image: Image, contents: Contents) -> Node:
    """Return the root directory of *image*; what is in its files goes into *contents*.

    Raises:
        ContentError: a layer is damaged, or links to what is not there.
        UnsafeEntry: a name could leave the root.
        LostLayer: a layer came from a cache, and is none.
    """
    root = directory()
    for layer in image.layers:
        with open_tar(layer) as tar:
            _Applying(root, contents).apply(TarReader(tar))
    return root


# A directory, and its real path: without links.
_Place = tuple[Node, bytes]


class _Applying:
    """One layer on its way into the tree."""

    def __init__(self, root: Node, contents: Contents) -> None:
        self._root = root
        self._contents = contents
        # Real paths of what this layer has added, and of the directories that those are in:
        # whiteouts are about the layers beneath only.
        self._added: set[bytes] = set()
        self._known: dict[bytes, _Place] = {b"": (root, b"")}

    def apply(self, reader: TarReader) -> None:
        while (entry := reader.next()) is not None:
            self._put(entry, reader)

    def _put(self, entry: Entry, reader: TarReader) -> None:
        kind, whole = entry.kind, entry.name
        where, _, name = whole.rpartition(b"/")
        # A stored name takes memory, and is known by where it is.
        entry.name = b""
        if kind is Kind.OPAQUE:
            if (place := self._place(whole, make=False)) is not None:
                self._empty(*place)
        elif kind is Kind.WHITEOUT:
            if (place := self._place(where, make=False)) is not None:
                self._remove(*place, name)
        elif kind is Kind.HARDLINK:
            self._link(entry, whole, where, name)
        elif kind is Kind.DIRECTORY:
            self._directory(whole, where, name, entry)
        else:
            content = self._contents.keep(reader, entry.size) if entry.size else None
            node, path = self._made(where)
            self._set(node, path, name, Node(entry, content))

    def _link(self, entry: Entry, whole: bytes, where: bytes, name: bytes) -> None:
        # In this order: a directory on the way may come in the place of the target.
        node, path = self._made(where)
        directory, real, base = self._target(entry, whole)
        assert node.children is not None and directory.children is not None
        target = directory.children[base]
        if node.children.get(name) is target:
            return
        if (real + b"/").startswith(_joined(path, name) + b"/"):
            # The link would take the place of a directory that its target is in.
            raise _broken(whole, entry, "not there")
        self._set(node, path, name, target)
        target.linked = True

    def _directory(self, whole: bytes, where: bytes, name: bytes, entry: Entry) -> None:
        if not whole:
            self._root.entry = entry
            return
        node, path = self._made(where)
        assert node.children is not None
        there = node.children.get(name)
        if there is not None and there.children is not None:
            there.entry = entry
            self._add(_joined(path, name))
        else:
            self._set(node, path, name, Node(entry))

    def _set(self, parent: Node, path: bytes, name: bytes, node: Node) -> None:
        assert parent.children is not None
        before = parent.children.get(name)
        if before is not None and before.entry.kind in {Kind.DIRECTORY, Kind.SYMLINK}:
            self._forget()
        parent.children[name] = node
        self._add(_joined(path, name))

    def _add(self, path: bytes) -> None:
        while path and path not in self._added:
            self._added.add(path)
            path = path.rpartition(b"/")[0]

    def _forget(self) -> None:
        """Forget where names lead: something on the way is another thing now."""
        self._known = {b"": (self._root, b"")}

    def _remove(self, parent: Node, path: bytes, name: bytes) -> None:
        """Remove *name*, but for what this layer has added."""
        assert parent.children is not None
        # Iterative, because a tree may be deeper than Python recurses.
        waiting = [(parent, path, name)]
        while waiting:
            above, where, child = waiting.pop()
            assert above.children is not None
            node = above.children.get(child)
            real = _joined(where, child)
            if node is None:
                continue
            if real not in self._added:
                del above.children[child]
                self._forget()
            elif node.children is not None:
                waiting += [(node, real, grandchild) for grandchild in node.children]

    def _empty(self, node: Node, path: bytes) -> None:
        for name in list(node.children or ()):
            self._remove(node, path, name)

    def _target(self, entry: Entry, name: bytes) -> tuple[Node, bytes, bytes]:
        """Return the directory that a hard link leads to, its real path, and the name there."""
        where, _, base = entry.link.rpartition(b"/")
        directory, real = self._place(where, make=False) or (None, b"")
        children = directory.children if directory is not None else None
        if directory is None or children is None or base not in children:
            raise _broken(name, entry, "not there")
        if children[base].children is not None:
            raise _broken(name, entry, "a directory")
        return directory, real, base

    def _made(self, path: bytes) -> _Place:
        place = self._place(path, make=True)
        assert place is not None
        return place

    def _place(self, path: bytes, *, make: bool) -> _Place | None:
        """Return the directory *path*, following links; None where it is not there nor made."""
        found = self._known.get(path)
        if found is not None:
            return found
        trail: list[_Place] = [(self._root, b"")]
        waiting = path.split(b"/")[::-1]
        links = 0
        while waiting:
            name = waiting.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                if len(trail) > 1:
                    trail.pop()
                continue
            node, real = trail[-1]
            assert node.children is not None
            child = node.children.get(name)
            if child is not None and child.entry.kind is Kind.SYMLINK:
                links += 1
                if links > _MOST_LINKS:
                    raise ContentError(f"/{readable(path)} leads through too many symbolic links")
                if child.entry.link.startswith(b"/"):
                    del trail[1:]
                waiting += child.entry.link.split(b"/")[::-1]
                continue
            if child is None or child.children is None:
                if not make:
                    return None
                child = directory()
                self._set(node, real, name, child)
            trail.append((child, _joined(real, name)))
        self._known[path] = trail[-1]
        return trail[-1]


def _broken(name: bytes, entry: Entry, what: str) -> ContentError:
    return ContentError(
        f"/{readable(name)} is a hard link to /{readable(entry.link)}, which is {what}"
    )


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def graft(target: Node, source: Node, complain: Callable[[bytes], ContentError]) -> None:
    """Put what is in the directory *source* into *target*.

    Directories that both have become one, as *target* has it.

    Args:
        target: is changed, and shares no directory with *source* afterwards.
        source: another tree.
        complain: returns what to raise for a name that both have.
    """
    waiting = [(target, source, b"")]
    while waiting:
        into, out_of, path = waiting.pop()
        assert into.children is not None and out_of.children is not None
        for name, node in out_of.children.items():
            there = into.children.get(name)
            if there is None:
                there = into.children[name] = node if node.children is None else Node(node.entry)
            elif there.children is None or node.children is None:
                raise complain(_joined(path, name))
            if node.children is not None:
                waiting.append((there, node, _joined(path, name)))


def files(root: Node, epoch: int | None = None) -> Iterator[tuple[Entry, Content | None]]:
    """Yield everything in *root*, but itself, sorted by name, parents before their children.

    Of several names of one file, the first is the file and the others are hard links to it. With
    each comes its content, if there is any.

    Args:
        root: a directory.
        epoch: the time of all files, in seconds since 1970, if they are not to have their own.
    """
    first: dict[int, bytes] = {}
    waiting = [(b"", root)]
    while waiting:
        path, node = waiting.pop()
        if path:
            known = first.setdefault(id(node), path) if node.linked else path
            yield _described(path, node, known, epoch)
        children = node.children or {}
        for name in sorted(children, reverse=True):
            waiting.append((_joined(path, name), children[name]))


def _described(
    path: bytes, node: Node, known: bytes, epoch: int | None
) -> tuple[Entry, Content | None]:
    entry = node.entry
    described = Entry(
        path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.mtime_ns if epoch is None else epoch * SECOND,
        entry.link,
        entry.xattrs,
        entry.device,
    )
    if known != path:
        described.kind, described.link, described.size = Kind.HARDLINK, known, 0
    return described, node.content
