"""Instructions as BuildKit's table describes them, and as we do."""

from __future__ import annotations

from typing import Any

from kaniko_core.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)

# What the table says of an instruction that we keep elsewhere, or not before it is expanded.
_NOT_OURS = {"DocComment", "NoDelim", "flags_used", "mounts_unexpanded"}


def ours(instruction: Instruction) -> dict[str, Any]:
    """Describe one of our instructions in the words of the table."""
    name = type(instruction).__name__.upper()
    return {"_name": name, **_fields(instruction)}


def theirs(command: dict[str, Any]) -> dict[str, Any]:
    """Return an instruction of the table without nulls and without what we do not keep."""
    return {key: _plain(value) for key, value in command.items() if key not in _NOT_OURS}


def heredoc(found: Heredoc) -> dict[str, Any]:
    """Describe a here-document in the words of the table's syntax tree."""
    return {
        "Name": found.name,
        "FileDescriptor": found.file_descriptor,
        "Expand": found.expand,
        "Chomp": found.chomp,
        "Content": found.content,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in _NOT_OURS}
    return [] if value is None else value


def _fields(instruction: Instruction) -> dict[str, Any]:
    match instruction:
        case Run(command=command):
            return {
                "cmdline": list(command.argv),
                "prepend_shell": command.shell,
                "files": [_file(item) for item in instruction.heredocs],
                "network": instruction.network or "default",
                "security": instruction.security or "sandbox",
                "devices": list(instruction.devices),
            }
        case Cmd(command=command) | Entrypoint(command=command):
            return {"CmdLine": list(command.argv), "PrependShell": command.shell, "Files": []}
        case Copy():
            return {
                **_copied(instruction),
                "From": instruction.from_ or "",
                "Parents": instruction.parents,
            }
        case Add():
            return {
                **_copied(instruction),
                "Checksum": instruction.checksum or "",
                "KeepGitDir": [] if instruction.keep_git_dir is None else instruction.keep_git_dir,
                "Unpack": [] if instruction.unpack is None else instruction.unpack,
            }
        case Env(pairs=pairs):
            return {"Env": _pairs(pairs)}
        case Label(pairs=pairs):
            return {"Labels": _pairs(pairs)}
        case Arg(pairs=pairs):
            return {"Args": _pairs(pairs)}
        case Workdir(path=path):
            return {"Path": path}
        case User(name=name):
            return {"User": name}
        case Maintainer(name=name):
            return {"Maintainer": name}
        case Expose(ports=ports):
            return {"Ports": sorted(ports)}
        case Volume(paths=paths):
            return {"Volumes": list(paths)}
        case StopSignal(signal=signal):
            return {"Signal": signal}
        case Shell(argv=argv):
            return {"Shell": list(argv)}
        case OnBuild(text=text):
            return {"Expression": text}
        case Healthcheck():
            return {"Health": _health(instruction)}


def _pairs(pairs: Any) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": value} for key, value in pairs]


def _file(found: Heredoc) -> dict[str, Any]:
    return {"Name": found.name, "Data": found.content, "Chomp": found.chomp}


def _copied(instruction: Copy | Add) -> dict[str, Any]:
    inline = {f"<<{item.name}" for item in instruction.heredocs}
    return {
        "SourcePaths": [source for source in instruction.sources if source not in inline],
        "SourceContents": [
            {"Path": item.name, "Data": item.content, "Expand": item.expand}
            for item in instruction.heredocs
        ],
        "DestPath": instruction.destination,
        "Chown": instruction.chown or "",
        "Chmod": instruction.chmod or "",
        "Link": instruction.link,
        "ExcludePatterns": list(instruction.exclude),
    }


def _health(check: Healthcheck) -> dict[str, Any]:
    if check.command is None:
        return {"Test": ["NONE"]}
    kind = "CMD-SHELL" if check.command.shell else "CMD"
    fields = {
        "Test": [kind, *check.command.argv],
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {key: value for key, value in fields.items() if value}
