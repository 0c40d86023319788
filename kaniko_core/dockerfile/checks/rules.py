"""The rules of build checks, by BuildKit's names.

Source: the Docker documentation, "Build checks"; the names, and what each rule says of a line,
are BuildKit's, because people and programs look for them. The descriptions are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from kaniko_core.lean import dataclass

_PAGES = "https://docs.docker.com/go/dockerfile/rule"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        description: what it asks for, and why: one sentence.
        experimental: whether it runs only where it is asked for by name.
        documented: whether Docker has a page about it.
    """

    name: str
    description: str
    experimental: bool = False
    documented: bool = True

    @property
    def url(self) -> str:
        """The page about it; empty where there is none."""
        return f"{_PAGES}/{_WORDS.sub('-', self.name).lower()}/" if self.documented else ""


_ALL = (
    Rule("StageNameCasing", "Names of stages are in lower case, as they are stored."),
    Rule("FromAsCasing", "FROM and AS are written in the same case."),
    Rule("NoEmptyContinuation", "An instruction has no empty lines inside; they will be errors."),
    Rule("ConsistentInstructionCasing", "All instructions are in upper case, or all in lower."),
    Rule("DuplicateStageName", "A stage has a name of its own; only the last of two is found."),
    Rule("ReservedStageName", "No stage is named scratch or context, which mean something else."),
    Rule(
        "JSONArgsRecommended",
        "CMD and ENTRYPOINT are JSON lists: in the shell form, signals end at the shell.",
    ),
    Rule("MaintainerDeprecated", "The author of an image is a label; MAINTAINER is out of use."),
    Rule("UndefinedArgInFrom", "A variable in FROM is declared by an ARG above the first FROM."),
    Rule(
        "WorkdirRelativePath",
        "The first WORKDIR is absolute: a relative one depends on what the base image says.",
    ),
    Rule("UndefinedVar", "A variable is defined by ARG or ENV before it is used."),
    Rule(
        "MultipleInstructionsDisallowed",
        "A stage has one CMD, ENTRYPOINT and HEALTHCHECK: of several, only the last counts.",
    ),
    Rule("LegacyKeyValueFormat", "ENV and LABEL have an equals sign between name and value."),
    Rule(
        "InvalidBaseImagePlatform",
        "A base image is for the platform that is built for.",
        documented=False,
    ),
    Rule(
        "RedundantTargetPlatform",
        "FROM does not name the target platform, which it has anyway.",
    ),
    Rule("SecretsUsedInArgOrEnv", "No secret is in ARG or ENV, which everyone can read."),
    Rule(
        "InvalidDefaultArgInFrom",
        "FROM names an image also where no --build-arg is given.",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM has no constant platform: the Dockerfile would build for no other.",
    ),
    Rule("CopyIgnoredFile", "COPY and ADD name no file that .dockerignore leaves out."),
    Rule(
        "InvalidDefinitionDescription",
        "A comment right above FROM or ARG describes it: # NAME what it is for.",
        experimental=True,
    ),
    Rule("ExposeProtoCasing", "The protocol of EXPOSE is in lower case."),
    Rule(
        "ExposeInvalidFormat",
        "EXPOSE names ports of the container alone, without address or port of the host.",
    ),
)
RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in _ALL})
