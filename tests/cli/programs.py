"""Our programs, and what their builds would be given."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

import kaniko_executor.cli
import kaniko_warmer.cli

PROGRAMS = {"kaniko-executor": kaniko_executor.cli.app, "kaniko-warmer": kaniko_warmer.cli.app}


def recording(seen: dict[str, Any]) -> typer.Typer:
    """Return kaniko-executor; its builds only write all fields of their options into *seen*."""

    def build(*given: Any, **more: Any) -> None:
        for options in (*given, *more.values()):
            if type(options).__name__.endswith("Options"):
                names = [field.name for field in dataclasses.fields(options)]
                seen.update({name: getattr(options, name) for name in names})

    return kaniko_executor.cli.application(build)
