"""``kaniko-executor login`` and ``logout``: credentials for a registry, kept in Docker's config."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaniko_core.cli import console, with_options
from kaniko_core.console.words import printable
from kaniko_core.errors import Unauthorized, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.options import Flag, LogOptions, RegistryOptions
from kaniko_core.progress import Progress, Warned

if TYPE_CHECKING:
    from kaniko_core.registry.credentials import Credentials
    from kaniko_core.registry.logins import Server

_SHORT = {"username": "-u", "password": "-p", "verbosity": "-v"}
# Nothing is pulled here, and the credentials are those that are given.
_OMITTED = frozenset(
    "insecure_pull skip_tls_verify_pull image_download_retry image_fs_extract_retry "
    "credential_helpers registry_map registry_mirror skip_default_registry_fallback".split()
)
_REGISTRY = typer.Argument(
    metavar="REGISTRY",
    show_default=False,
    help="The registry's name, such as quay.io; with a path, such as quay.io/team, for "
    "credentials that are for that path only.",
)
# Bytes; no password is as long, and nobody fills our memory.
_LONGEST_PASSWORD = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginOptions:
    """Who logs in."""

    username: Annotated[str | None, Flag("The user's name.", metavar="NAME")] = None
    password: Annotated[
        str | None,
        Flag("The password; others on this machine may see it in lists of processes."),
    ] = None
    password_stdin: Annotated[bool, Flag("Read the password from stdin.")] = False

    def __post_init__(self) -> None:
        if self.password is not None and self.password_stdin:
            raise UsageError("--password and --password-stdin cannot be given together")


@with_options(short=_SHORT, omit=_OMITTED)
def login(
    server: Annotated[str, _REGISTRY],
    *,
    given: LoginOptions,
    registry: RegistryOptions,
    log: LogOptions,
) -> None:
    """Check a password with a registry, and keep it in Docker's config file for later builds."""
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core.registry import logins

    wanted = logins.Server.parse(server)
    path = _config()
    credentials = _credentials(given)
    with console(log) as progress:
        if given.password is not None and given.password != os.environ.get("KANIKO_PASSWORD"):
            progress(
                Warned(
                    "the password was given on the command line, where others may see it",
                    hint="--password-stdin reads it from stdin",
                )
            )
        _check(wanted, credentials, registry, progress)
        place = logins.store(wanted, credentials, path)
    typer.echo(printable(f"logged in to {wanted.name}; the credentials are in {place}"))


@with_options(short={"verbosity": "-v"})
def logout(server: Annotated[str, _REGISTRY], *, log: LogOptions) -> None:
    """Remove the credentials for a registry from Docker's config file."""
    from kaniko_core.registry import logins

    wanted = logins.Server.parse(server)
    path = _config()
    with console(log):
        removed = logins.erase(wanted, path)
    said = "logged out of" if removed else "there were no credentials for"
    typer.echo(printable(f"{said} {wanted.name}"))


def _config() -> Path:
    from kaniko_core.registry.auth import own_config

    path = own_config()
    if path is None:
        raise UsageError(
            "there is no place for credentials: neither DOCKER_CONFIG nor HOME is set",
            hint="DOCKER_CONFIG names a directory for Docker's config.json",
        )
    return path


def _credentials(given: LoginOptions) -> Credentials:
    from kaniko_core.registry.credentials import Credentials

    if not given.username:
        raise UsageError("there is no user's name", hint="give it with --username")
    if ":" in given.username:
        raise UsageError("a user's name cannot have a colon: it would end there")
    if not given.password_stdin and given.password is None:
        raise UsageError("there is no password", hint="give it on stdin, with --password-stdin")
    password = given.password if given.password is not None else _from_stdin()
    if not password:
        raise UsageError("the password is empty")
    return Credentials(given.username, password)


def _from_stdin() -> str:
    if sys.stdin is None:
        return ""  # closed
    try:
        data = sys.stdin.buffer.read(_LONGEST_PASSWORD)
        # A line's end belongs to the line, not to the password.
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password on stdin is no text in UTF-8") from None


def _check(
    server: Server, credentials: Credentials, options: RegistryOptions, progress: Progress
) -> None:
    from kaniko_core.registry.client import Registry
    from kaniko_core.registry.logins import GivenKeychain

    keychain = GivenKeychain(credentials)
    host = server.repository.registry
    with Registry(options, push=True, keychain=keychain, progress=progress) as asked:
        try:
            asked.check_login(server.repository)
        except Unauthorized as error:
            raise Unauthorized(
                str(error),
                status=error.status,
                code=error.code,
                hint="nothing was stored; check the name and the password: many registries want "
                "an access token in its place",
            ) from error
    if not keychain.asked:
        progress(Warned(f"{host} did not ask for a password, so that it could not be checked"))
