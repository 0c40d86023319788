"""What a single instruction follows from, as parts of its key.

    instruction                              RUN, COPY, ADD or WORKDIR
    command       place                      a word of what RUN executes
    program       path                       a here-document that RUN executes
    variable      name                       what a command finds in its environment, of ENV
    argument      name                       the same of ARG, where no ENV has the name
    user, workdir, network, security, …      what is not the default
    mount         target                     how something is mounted
    destination                              where files go to, or the working directory
    source        place                      a source word
    chown, chmod, link, …                    flags, as far as they are given
    file          path in its tree           see fingerprints.py
    url, git      address                    what is there
    stage, image  its name                   the key of all files of it
    epoch                                    the time of what has none, in seconds since 1970
    ignored path  path                       changes there become part of no layer

The names of stages and images are for people: by another name they are the same.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future

from kaniko_core.addresses.archives import RemoteFile, WebFile
from kaniko_core.addresses.git import GitReference, is_commit
from kaniko_core.addresses.url import parse_url
from kaniko_core.builder.binds import copied_entries
from kaniko_core.builder.cached.fingerprints import FileParts, Fingerprints, fields, sha256
from kaniko_core.builder.changes import ignored_changes
from kaniko_core.builder.configure import StageState, command_line, expand, located
from kaniko_core.builder.history import run_script
from kaniko_core.builder.plan import ContextBase, Origin
from kaniko_core.builder.remote import RemoteSources, expected
from kaniko_core.builder.run import HOSTNAME_ARGUMENT, parsed_mounts
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.taken import TakenFiles, inline_files, source_entries, source_words
from kaniko_core.builder.wanted import remote_source
from kaniko_core.cache.key import Part
from kaniko_core.dockerfile.instructions import Add, Copy, Run
from kaniko_core.dockerfile.mounts import Mount, MountKind
from kaniko_core.dockerfile.paths import destination_path
from kaniko_core.lean import dataclass
from kaniko_core.options import BuildOptions
from kaniko_core.sandbox.runner import DEFAULT_HOSTNAME


@dataclass(frozen=True, slots=True)
class OriginPart:
    """A part that stands for all files of *origin*: known when that one has a key."""

    origin: Origin


# What becomes parts: at once; when files were read; or when another stage has its keys.
Piece = Part | Future[FileParts] | OriginPart


@dataclass(frozen=True, slots=True)
class Inputs:
    """Finds what the instructions of one build follow from.

    Attributes:
        context: the build context.
        files: returns the files of a named context.
        remote: fetches the sources of ADD.
        epoch: ``SOURCE_DATE_EPOCH``.
        options: what else the user wants.
        build_args: values given for ARGs.
        fingerprints: reads files.
        pool: where that is done.
        rewritten: whether no file of a layer is younger than the epoch.
    """

    context: CopySource
    files: Callable[[ContextBase], CopySource]
    remote: RemoteSources
    epoch: int | None
    options: BuildOptions
    build_args: Mapping[str, str]
    fingerprints: Fingerprints
    pool: Executor
    rewritten: bool = False

    def run(self, run: Run, state: StageState, origins: Mapping[str, Origin]) -> Iterator[Piece]:
        """Yield what RUN follows from.

        Args:
            run: as it was parsed; its mounts are expanded here.
            state: the stage at this instruction.
            origins: what the ``from`` of its mounts name.

        Raises:
            DockerfileError: a mount is wrong.
        """
        yield Part("instruction", "", "RUN")
        for place, word in enumerate(command_line(state, run)):
            yield Part("command", str(place), word)
        if run.command.shell:
            program = run_script(" ".join(run.command.argv), run.heredocs)
            if program is not None:
                yield Part("program", *program)
        # Proxies of the build, which nobody declared, are no part of it: they say how to reach
        # the network, not what is there.
        env = state.config.config.variables()
        for name, value in sorted(state.scope.variables.items()):
            yield Part("variable" if name in env else "argument", name, value)
        yield Part("user", "", state.user)
        yield Part("workdir", "", posixpath.normpath("/" + state.workdir.lstrip("/")))
        yield from self._surroundings(run)
        with located(run.source):
            mounts = parsed_mounts(run, state)
        for mount in mounts:
            yield Part("mount", _target(mount, state.workdir), _mount_value(mount))
            if mount.kind in (MountKind.BIND, MountKind.CACHE):
                yield from self._mounted(mount, run, origins)
        yield from self._of_layers()

    def _surroundings(self, run: Run) -> Iterator[Part]:
        if run.network == "none":
            yield Part("network", "", run.network)
        if run.security not in (None, "sandbox"):
            yield Part("security", "", run.security or "")
        for device in run.devices:
            yield Part("device", device, "")
        hostname = self.build_args.get(HOSTNAME_ARGUMENT) or DEFAULT_HOSTNAME
        if hostname != DEFAULT_HOSTNAME:
            yield Part("hostname", "", hostname)

    def _mounted(self, mount: Mount, run: Run, origins: Mapping[str, Origin]) -> Iterator[Piece]:
        """Yield what a mount shows; of a cache, what it begins with."""
        origin = origins[mount.from_.lower()] if mount.from_ else None
        if origin is None and mount.kind is MountKind.CACHE:
            return
        if origin is not None and not isinstance(origin, ContextBase):
            yield OriginPart(origin)
            return

        def shown() -> FileParts:
            source = self.context if origin is None else self.files(origin)
            with located(run.source):
                match = source.named(mount.source)
                taken = TakenFiles(match, copied_entries(source, match))
            mode = match.status.st_mode if match.is_directory and match.resolved else None
            # The root of a context has the mode of somebody's checkout.
            own = [] if mode is None else [Part("mode", "", f"{mode & 0o7777:o}")]
            found = self.fingerprints.parts(source, [taken])
            return FileParts([*own, *found.parts], found.seen)

        yield self.pool.submit(shown)

    def copied(
        self, instruction: Copy | Add, state: StageState, origins: Mapping[str, Origin]
    ) -> Iterator[Piece]:
        """Yield what COPY or ADD follows from.

        Args:
            instruction: as it was parsed; its words are expanded here.
            state: the stage before it.
            origins: what its ``--from`` names.

        Raises:
            DockerfileError: a word is wrong.
        """
        wanted = expand(state, instruction)
        yield Part("instruction", "", "COPY" if isinstance(wanted, Copy) else "ADD")
        with located(wanted.source):
            yield Part("destination", "", _destination(wanted.destination, state.workdir))
            yield from _flags(wanted)
            yield from _source_words(wanted)
            for item in inline_files(wanted, state):
                yield Part("here-document", item.name, sha256(item.content))
        yield from self._epoch()
        yield from self._of_layers()
        name = wanted.from_ if isinstance(wanted, Copy) else None
        origin = origins[name.lower()] if name else None
        if origin is not None and not isinstance(origin, ContextBase):
            yield OriginPart(origin)
            return

        def local() -> FileParts:
            source = self.context if origin is None else self.files(origin)
            return self.fingerprints.parts(source, source_entries(instruction, state, source))

        yield self.pool.submit(local)
        if isinstance(wanted, Add):
            yield from self._fetched(wanted)

    def _fetched(self, add: Add) -> Iterator[Piece]:
        with located(add.source):
            for word in source_words(add):
                wanted = remote_source(word, add)
                if isinstance(wanted, GitReference):
                    yield self.pool.submit(self._repository, add, wanted)
                elif wanted is not None:
                    yield self.pool.submit(self._url, add, wanted)

    def _repository(self, add: Add, wanted: GitReference) -> FileParts:
        commit = _pinned(wanted)
        if commit is None:
            with located(add.source):
                commit = self.remote.git_tree(wanted).commit
        keep = bool(wanted.keep_git_dir) and not wanted.subdirectory
        value = fields(
            (
                ("commit", commit),
                ("directory", wanted.subdirectory.strip("/")),
                ("submodules", wanted.submodules is not False),
                # A repository that is kept knows where it is from.
                ("from", f"{wanted.address}#{wanted.ref}" if keep else None),
            )
        )
        return FileParts([Part("git", wanted.name, value)])

    def _url(self, add: Add, wanted: RemoteFile) -> FileParts:
        with located(add.source):
            # With a checksum, what is at the address is known without asking.
            digest = expected(add)
            if digest is None:
                digest = self.remote.file(wanted).digest
        value = fields((("to", _name_of(wanted)), ("content", str(digest))))
        return FileParts([Part("url", wanted.name, value)])

    def workdir(self, state: StageState) -> Iterator[Piece]:
        """Yield what WORKDIR follows from; *state* is the stage after it."""
        yield Part("instruction", "", "WORKDIR")
        yield Part("destination", "", state.workdir)
        yield Part("user", "", state.user)
        yield from self._epoch()
        yield from self._of_layers()

    def started(self, instruction: Copy, state: StageState, origin: ContextBase) -> Iterator[Piece]:
        """Yield what a stage follows from that starts from the files of a named context."""
        yield from self._epoch()
        yield from self._of_layers()

        def files() -> FileParts:
            source = self.files(origin)
            return self.fingerprints.parts(source, source_entries(instruction, state, source))

        yield self.pool.submit(files)

    def _epoch(self) -> Iterator[Part]:
        if self.epoch is not None:
            yield Part("epoch", "", str(self.epoch))

    def _of_layers(self) -> Iterator[Part]:
        if self.rewritten:
            yield Part("latest time", "", str(self.epoch))
        for path in sorted(ignored_changes(self.options).covered):
            yield Part("ignored path", path.decode("utf-8", "surrogateescape"), "")


def _destination(text: str, workdir: str) -> str:
    path = destination_path(workdir, text)
    # Both say that it is a directory; without that, a single file would take its place.
    return f"{path.rstrip('/')}/" if text in ("", ".") else path


def _flags(instruction: Copy | Add) -> Iterator[Part]:
    """Yield the flags that change what files become in a layer."""
    if instruction.chown:
        yield Part("chown", "", instruction.chown)
    if instruction.chmod:
        yield Part("chmod", "", instruction.chmod)
    elif instruction.link:
        # With --chmod it has no effect.
        yield Part("link", "", "")
    for pattern in instruction.exclude:
        yield Part("exclude", pattern, "")
    if isinstance(instruction, Copy):
        if instruction.parents:
            yield Part("parents", "", "")
    elif instruction.unpack is not None:
        yield Part("unpack", "", str(instruction.unpack).lower())


def _source_words(instruction: Copy | Add) -> Iterator[Part]:
    for place, word in enumerate(source_words(instruction)):
        remote = isinstance(instruction, Add) and remote_source(word, instruction) is not None
        # Another address may lead to the same; what is there is a part of its own.
        yield Part("source", str(place), "" if remote else word)


def _name_of(wanted: RemoteFile) -> str:
    if isinstance(wanted, WebFile):
        from kaniko_core.remote.web.files import file_name

        return file_name(parse_url(wanted.url))
    return wanted.file_name


def _pinned(wanted: GitReference) -> str | None:
    """Return the hash that a reference is told by: then nothing need be fetched to know it."""
    if not is_commit(wanted.ref):
        return wanted.checksum if is_commit(wanted.checksum) else None
    # Where the two contradict each other, who fetches it says so.
    return wanted.ref if wanted.ref.startswith(wanted.checksum.lower()) else None


def _target(mount: Mount, workdir: str) -> str:
    if not mount.target:
        return ""
    return "/" + posixpath.normpath(posixpath.join("/", workdir, mount.target)).lstrip("/")


def _mount_value(mount: Mount) -> str:
    """Return how something is mounted; what a secret or a cache holds is not asked."""
    sharing = mount.sharing
    return fields(
        (
            ("kind", mount.kind.value),
            ("source", mount.source or None),
            ("readonly", mount.read_only),
            ("size", mount.size or None),
            ("id", mount.id or None),
            ("sharing", None if sharing is None else sharing.value),
            ("required", mount.required or None),
            ("env", mount.env),
            ("mode", None if mount.mode is None else f"{mount.mode:o}"),
            ("uid", mount.uid),
            ("gid", mount.gid),
        )
    )
