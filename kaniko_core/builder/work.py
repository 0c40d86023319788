"""One build for one platform: everything that it needs, and the walk from a plan to images.

all keys ─▶ what is cached ─▶ stages, side by side ─▶ images ─▶ products, of all platforms
   └───────────────◀── a cached layer turned out to be none ──◀──┘
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from kaniko_core.builder.agents import Agents
from kaniko_core.builder.attempt import build_stages, image_of
from kaniko_core.builder.cached.known import Known
from kaniko_core.builder.cached.reuse import Reused
from kaniko_core.builder.isolation import open_trees
from kaniko_core.builder.origins import Origins
from kaniko_core.builder.output import Delivery
from kaniko_core.builder.run import commands_of
from kaniko_core.builder.secrets import Secrets
from kaniko_core.builder.stage import StageBuilder
from kaniko_core.builder.workspace import Workspace
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.progress import Noted, Progress
from kaniko_core.registry.client import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One build, ready to begin.

    Attributes:
        known: what is to be built, and where everything that it reads is.
        shared: the directory in which things are kept for later builds; None where none is.
        inline: whether the image carries the keys of its layers.
        protected: what the build needs of ``/`` to the end, if it is in place.
    """

    known: Known
    workspace: Workspace
    secrets: Secrets
    agents: Agents
    shared: Path | None
    protected: Collection[Path]
    inline: bool
    pull: Registry
    delivery: Delivery

    @property
    def progress(self) -> Progress:
        """Takes events of the build."""
        return self.workspace.progress

    def images(self, reused: Reused | None) -> tuple[Image, ...]:
        """Build what the layer cache has not, and return the images of all targets.

        Raises:
            LostLayer: a cached layer is none: the build is to start over.
            KanikoError: with a sentence for people.
        """
        known, build = self.known, self.known.build
        plan = known.plan
        if reused is not None:
            plan = reused.choice.plan
            for number in sorted(known.plan.stages.keys() - plan.stages.keys()):
                label = known.plan.stages[number].stage.label
                self.progress(
                    Noted(f"stage {label} is not built: all that is copied from it is cached")
                )
        with open_trees(build, plan, self.workspace, self.protected) as trees:
            commands = commands_of(
                build,
                self.workspace,
                trees,
                secrets=self.secrets,
                agents=self.agents,
                shared=self.shared,
            )
            origins = Origins(
                plan=plan,
                escape=known.project.dockerfile.escape,
                context=known.files.main,
                files=known.files.of,
                workspace=self.workspace,
                trees=trees,
                images=known.images,
                delivery=self.delivery,
                materialize=build.materialize,
                reused=reused,
                made=known.image,
            )
            builder = StageBuilder(
                origins=origins,
                build_args=known.project.build_args,
                remote=known.remote,
                workspace=self.workspace,
                commands=commands,
                progress=self.progress,
                epoch=known.project.epoch,
                options=build,
                image=known.image,
            )
            # From the top down, so that nobody begins anew what was ended.
            ends = (self.pull.cancel, known.remote.cancel, trees.cancel)
            epoch = known.project.epoch
            # A stage of two names is one image, and not one for each moment.
            built = dict(zip(plan.targets, build_stages(builder, ends), strict=True))
            images = {
                number: image_of(stage, known.image, epoch, inline=self.inline)
                for number, stage in built.items()
            }
            return tuple(images[number] for number in plan.targets)
