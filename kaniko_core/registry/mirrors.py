"""Where images are pulled from: a registry's mirrors in their order, then the registry itself.

    docker.io/library/debian ─▶ mirror.example.com/hub/library/debian
                             ─▶ other.example.com/library/debian
                             ─▶ docker.io/library/debian     unless that is not wanted

A place that is down, lacks the image, refuses, or serves what nobody asked for is passed over with
one warning, and the next is asked. One that cannot be reached is not asked again. A mirror that
is not the last resort is not waited for as patiently as a registry that is.

Requests to a mirror are requests to its own repository: credentials, tokens, certificates and
sentences are those of its host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self, TypeVar

from kaniko_core.errors import ContentError, NotFound, RegistryError, Unauthorized
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.options import RegistryOptions
from kaniko_core.options.mirrors import Mirror
from kaniko_core.progress import Noted, Progress, Warned, silent
from kaniko_core.registry.session import Session

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MirrorRules:
    """What the options say about mirrors: *mirrors* in the order in which they are asked."""

    mirrors: tuple[Mirror, ...] = ()
    fallback: bool = True

    @classmethod
    def of(cls, options: RegistryOptions) -> Self:
        """Return the rules for pulling; nothing is ever pushed to a mirror."""
        mapped = (mirror for mirrors in options.registry_map for mirror in mirrors)
        return cls((*mapped, *options.registry_mirror), not options.skip_default_registry_fallback)

    def places(self, repository: Repository) -> tuple[Repository, ...]:
        """Return where to look for what *repository* has, in order; there is one at least."""
        mirrored = (
            mirror.repository(repository.path)
            for mirror in self.mirrors
            if mirror.registry == repository.registry.lower()
        )
        found = tuple(dict.fromkeys(mirrored))
        if found and not self.fallback:
            return found
        return (*(place for place in found if place != repository), repository)


@dataclass(frozen=True, slots=True)
class Place:
    """One place to look for something, and how to talk to it.

    Attributes:
        reference: the image's name there.
        session: carries the requests.
        last: whether there is no other place after it.
    """

    reference: Reference
    session: Session
    last: bool


class Mirrors:
    """Asks one place after the other; safe to use from several threads.

    Args:
        rules: which places there are.
        session: for the last place of each image.
        brief: for all others; fails sooner.
        progress: told of places that are passed over.
    """

    def __init__(
        self, rules: MirrorRules, session: Session, brief: Session, progress: Progress
    ) -> None:
        self._rules = rules
        self._session = session
        self._brief = brief
        self._progress = progress
        self._lock = threading.Lock()
        self._down: set[str] = set()
        self._having: set[Repository] = set()
        self._lacking: set[Repository] = set()
        self._told: set[tuple[str, str]] = set()

    def first(
        self, reference: Reference, ask: Callable[[Place], T | None], *, part: bool = False
    ) -> T | None:
        """Return the first answer to *ask* that is one; None where the last place has nothing.

        Args:
            reference: the image, by its own name.
            ask: asks one place; returns None where that does not have it.
            part: whether a part of an image is wanted whose manifest is known by now.

        Raises:
            RegistryError: the last place refuses or cannot be reached; or it is a mirror, and
                nobody has the image.
            ContentError: what the last place sends is not what it should be.
        """
        for place in self.places(reference, part=part):
            if place.last:
                return self._asked_last(reference, place, ask)
            try:
                found = ask(place)
            except (RegistryError, ContentError) as error:
                self.passed_over(reference, place, error)
                continue
            if found is not None:
                self._came_from(reference, place)
                return found
            self.passed_over(reference, place, None)
        raise AssertionError("there is always a last place")

    def places(self, reference: Reference, *, part: bool = False) -> Iterator[Place]:
        """Yield the places worth asking for an image or a part of it, each when its turn comes."""
        *mirrors, last = self._rules.places(reference.repository)
        for repository in mirrors:
            if self._worth_asking(repository, part=part or reference.digest is not None):
                there = replace(reference, repository=repository)
                yield Place(there, self._brief, last=False)
        yield Place(replace(reference, repository=last), self._session, last=True)

    def passed_over(
        self, reference: Reference, place: Place, error: RegistryError | ContentError | None
    ) -> None:
        """Remember and tell that *place* was of no use; without *error* it lacks the image.

        Raises:
            RegistryError: everything was given up meanwhile, so no other place is to be asked.
        """
        self._session.go_on()
        repository = place.reference.repository
        missing = error is None or isinstance(error, NotFound | Unauthorized)
        down = isinstance(error, RegistryError) and (error.status is None or error.temporary)
        with self._lock:
            if down:
                self._down.add(repository.registry)
            if missing:
                self._lacking.add(repository)
            subject = repository.registry if down else str(place.reference)
            new = (subject, type(error).__name__) not in self._told
            self._told.add((subject, type(error).__name__))
        if new:
            said = error or f"the mirror {repository.registry} does not have {place.reference}"
            onwards = self._after(reference, place)
            self._progress(Warned(f"{said}; asking {onwards} instead", hint=_hint(error)))

    def _after(self, reference: Reference, place: Place) -> str:
        every = self._rules.places(reference.repository)
        *mirrors, last = every[every.index(place.reference.repository) + 1 :]
        with self._lock:
            up = (mirror.registry for mirror in mirrors if mirror.registry not in self._down)
            return next(up, last.registry)

    def _worth_asking(self, repository: Repository, *, part: bool) -> bool:
        with self._lock:
            if repository.registry in self._down:
                return False
            # Of an image that a place did not have, it does not have the parts.
            return not (part and repository in self._lacking and repository not in self._having)

    def _asked_last(
        self, reference: Reference, place: Place, ask: Callable[[Place], T | None]
    ) -> T | None:
        is_original = place.reference.repository == reference.repository
        try:
            found = ask(place)
        except (RegistryError, ContentError) as error:
            if not is_original:
                error.add_note(_NOT_ASKED.format(reference.repository.registry))
            raise
        if found is None and not is_original:
            raise self._nowhere(reference)
        if not is_original:
            self._came_from(reference, place)
        return found

    def _came_from(self, reference: Reference, place: Place) -> None:
        """Remember and tell that *place* has images of the repository."""
        there = place.reference.repository
        with self._lock:
            new = there not in self._having
            self._having.add(there)
        if new:
            self._progress(Noted(f"pulling {reference.repository} from its mirror {there}"))

    def _nowhere(self, reference: Reference) -> NotFound:
        registry = reference.repository.registry
        hosts = [place.registry for place in self._rules.places(reference.repository)]
        with self._lock:
            down = [host for host in hosts if host in self._down]
        asked = ", ".join(host for host in hosts if host not in down)
        also = f"; {', '.join(down)} could not be asked" if down else ""
        return NotFound(
            f"no mirror of {registry} has {reference.familiar}: asked {asked}{also}",
            status=404,
            hint=_NOT_ASKED.format(registry),
        )


def no_mirrors(session: Session) -> Mirrors:
    """Return what asks each registry itself, and nobody else."""
    return Mirrors(MirrorRules(), session, session, silent)


_NOT_ASKED = "{} itself is not asked, because of --skip-default-registry-fallback"


def _hint(error: RegistryError | ContentError | None) -> str | None:
    return None if error is None else error.hint
