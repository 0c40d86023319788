"""Which destinations get which target's image, and what cannot be written for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import Reference
from kaniko_core.options import Destination, OutputOptions


def names_of(options: OutputOptions, stages: Sequence[str]) -> tuple[tuple[Reference, ...], ...]:
    """Return for each target the names that its image gets.

    Args:
        options: says which destinations there are.
        stages: the targets, as ``--target`` names them.

    Raises:
        UsageError: a destination is for a stage that is no target, or the targets' images cannot
            be written to one place together.
    """
    names: tuple[list[Reference], ...] = tuple([] for _ in stages)
    for destination in options.destination:
        names[_target(destination, stages)].append(destination.reference.with_default_tag)
    _refuse_one_tarball(options, stages)
    if options.oci_layout_path is not None:
        _refuse_shared_tags(names, stages)
    return tuple(tuple(dict.fromkeys(each)) for each in names)


def _target(destination: Destination, stages: Sequence[str]) -> int:
    if not destination.stage:
        return 0
    # Names of stages are the same in any case.
    known = [stage.lower() for stage in stages]
    if destination.stage.lower() in known:
        return known.index(destination.stage.lower())
    targets = ", ".join(filter(None, stages))
    raise UsageError(
        f"--destination {destination}: {destination.stage} is no target of this build",
        hint=f"the targets are {targets}"
        if targets
        else f"build it with --target={destination.stage}",
    )


def _refuse_one_tarball(options: OutputOptions, stages: Sequence[str]) -> None:
    if options.tar_path is not None and len(stages) > 1:
        raise UsageError(
            f"--tar-path writes a docker-save tarball of one image, and there are {len(stages)} "
            "targets",
            hint="use --oci-layout-path, or build each target by itself",
        )


def _refuse_shared_tags(names: Sequence[Sequence[Reference]], stages: Sequence[str]) -> None:
    """A layout knows images by their tags alone."""
    owners: dict[str, int] = {}
    for target, references in enumerate(names):
        for tag in dict.fromkeys(layout_tags(references, stages[target], len(stages))):
            if owners.setdefault(tag, target) != target:
                raise UsageError(
                    f"--oci-layout-path names images by their tags, and {stages[owners[tag]]} "
                    f"and {stages[target]} would both be {tag} there",
                    hint="push them under different tags",
                )


def layout_tags(references: Sequence[Reference], stage: str, targets: int) -> list[str]:
    """Return the tags of an image in a layout; one without any is named after its stage there.

    An image without a name of its own would take the place of another without one.
    """
    tags = [reference.identifier for reference in references]
    return tags or ([stage] if targets > 1 else [])
