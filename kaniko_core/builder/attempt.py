"""From a plan to an image: all stages, side by side, and what becomes of the last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace

from kaniko_core.builder import history
from kaniko_core.builder.cached.lineage import Unsound
from kaniko_core.builder.finished import timed, without_empty
from kaniko_core.builder.origins import BuiltStage
from kaniko_core.builder.stage import StageBuilder
from kaniko_core.oci.image import Image, compose
from kaniko_core.options import AnnotationPlace, ImageOptions
from kaniko_core.steps.inline import with_inline, without_inline
from kaniko_core.steps.step import CachedStep, LostLayer

# Stages that run at once. Their commands compete for the same cores, but mostly wait for
# networks and disks.
_STAGES = 8


def build_stages(
    builder: StageBuilder, ends: Iterable[Callable[[], None]]
) -> tuple[BuiltStage, ...]:
    """Build every stage of the plan, each as soon as those it needs are there; return the targets.

    Args:
        builder: builds each of them.
        ends: end what the others are doing when one fails, and its error is raised.

    Raises:
        LostLayer: a cached layer is none: the build is to start over.
        KanikoError: a stage cannot be built.
    """
    plan = builder.plan
    order = plan.order()
    order.prepare()
    built: dict[int, BuiltStage] = {}
    running: dict[Future[BuiltStage], int] = {}
    at_once = _STAGES if builder.origins.trees.concurrent else 1
    with ThreadPoolExecutor(at_once, thread_name_prefix="stage") as pool:
        try:
            while order.is_active():
                for number in order.get_ready():
                    running[pool.submit(builder.build, number, built)] = number
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                with _others_finished(running):
                    for future in done:
                        number = running.pop(future)
                        built[number] = future.result()
                        order.done(number)
        except LostLayer:
            raise
        except BaseException:
            for end in ends:
                end()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tuple(built[number] for number in plan.targets)


@contextmanager
def _others_finished(running: Collection[Future[BuiltStage]]) -> Iterator[None]:
    """Wait for *running* stages where a layer is lost in the block: what they make is cached.

    Those that have not begun will not.
    """
    try:
        yield
    except LostLayer:
        for future in running:
            future.cancel()
        wait(running)
        raise


def image_of(stage: BuiltStage, image: ImageOptions, epoch: int | None, *, inline: bool) -> Image:
    """Return the image of a finished stage, waiting for its layers.

    Args:
        stage: the target.
        image: says what the image is like beside what is in it.
        epoch: the time that stands for the present, in seconds since 1970.
        inline: whether it carries the keys of its layers.
    """
    config = stage.state.config
    layers = stage.tree.layers()
    own = len(layers) - stage.below
    entries, layers = without_empty(config.history, layers, own)
    entries = timed(entries)
    created = entries[-1].created if entries and epoch is None else None
    all_labels = {**config.config.labels, **dict(image.label)}
    config = replace(
        config,
        config=replace(config.config, labels=all_labels),
        history=entries,
        created=created or history.now(epoch),
    )
    config = without_inline(config)
    if inline:
        config = with_inline(config, _sound(stage.steps))
    annotations = image.annotations_of(AnnotationPlace.MANIFEST, config.platform)
    return compose(config, layers, docker=stage.docker, annotations=annotations)


def _sound(steps: Iterable[Callable[[], CachedStep]]) -> Iterator[CachedStep]:
    for step in steps:
        with suppress(Unsound):
            yield step()
