"""One build after the other, for each platform, and what becomes of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kaniko_core.builder.cached.reuse import Reuse, Reused
from kaniko_core.builder.configure import located
from kaniko_core.builder.output import BuildResult
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.products import Making
from kaniko_core.builder.work import Work
from kaniko_core.dockerfile.instructions import Run
from kaniko_core.errors import SandboxError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.options import OutputOptions
from kaniko_core.progress import Noted
from kaniko_core.sandbox.emulation import runs
from kaniko_core.steps.step import LostLayer


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be built for one platform, and the layer cache for it, where there is one."""

    work: Work
    reuse: Reuse | None

    @property
    def platform(self) -> Platform:
        """What it is built for."""
        plan = self.work.known.plan
        return plan.stages[plan.target].platform

    def chosen(self) -> Reused | None:
        """Return what the layer cache has by now."""
        return None if self.reuse is None else self.reuse.chosen()

    def refuse_foreign(self) -> None:
        """Find out whether all commands can be run here.

        Raises:
            SandboxError: one cannot, and its result is not cached.
        """
        plan = self.work.known.plan
        if not _foreign(plan):
            return
        chosen = self.chosen()
        for platform, run in _foreign(plan if chosen is None else chosen.choice.plan):
            with located(run.source):
                raise SandboxError(
                    f"this RUN is for {platform}, and commands of that platform do not run on "
                    f"this machine, which is {Platform.host()}",
                    hint="build it on such a machine, and join the images with kaniko-executor "
                    "manifest; or register an emulator, as the image tonistiigi/binfmt does",
                )


def _foreign(plan: Plan) -> list[tuple[Platform, Run]]:
    return [
        (stage.platform, instruction)
        for stage in plan.stages.values()
        if stage.runs_commands and not runs(stage.platform)
        for instruction in stage.remaining
        if isinstance(instruction, Run)
    ]


def finish(jobs: Sequence[Job], output: OutputOptions, started: datetime) -> BuildResult:
    """Build what the layer cache has not, for all platforms, and deliver the images.

    Args:
        jobs: one for each platform.
        output: where the images go.
        started: when the build began.

    Raises:
        KanikoError: with a sentence for people.
    """
    for job in jobs:
        job.refuse_foreign()
    work = jobs[0].work
    making = Making(
        known=[job.work.known for job in jobs],
        output=output,
        scratch=work.workspace.directory,
        started=started,
        progress=work.progress,
    )
    while True:
        try:
            made = []
            for job in jobs:
                if len(jobs) > 1:
                    work.progress(Noted(f"building for {job.platform}"))
                made.append(job.work.images(job.chosen()))
            if all(job.reuse is None for job in jobs):
                # Else layers that no image has, but the cache is to have, are still being packed.
                work.workspace.rest()
            result = work.delivery.deliver(making.products(made), work.known.project.origin)
            making.export([images[0] for images in made])
            return result
        except LostLayer as lost:
            # What was made meanwhile is known now: nothing is done twice.
            for job in jobs:
                if job.reuse is not None:
                    job.reuse.cache.lose(lost)
            work.delivery.forget()
