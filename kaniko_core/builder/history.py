"""How instructions read in an image's history: the text that BuildKit writes, to the letter.

Scanners and ``docker history`` know these forms. They are what Go's formatting verbs print:
``%v`` of a list is ``[a b]``, ``%q`` of one is ``["a" "b"]``, ``%+v`` names fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from kaniko_core.dockerfile.heredocs import opening
from kaniko_core.dockerfile.instructions import Add, Copy, Healthcheck, Heredoc
from kaniko_core.oci.spec import History, Json

COMMENT = "buildkit.dockerfile.v0"
# What BuildKit appends where an instruction changed the file system.
_CHANGED = " # buildkit"

# Where a command finds here-documents that are programs.
_PROGRAMS = "/dev/pipes"

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}
# Go's time.Duration counts nanoseconds.
_SECOND = 10**9
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE


def now(epoch: int | None = None) -> str:
    """Return the present time as configs and histories have it: RFC 3339, in UTC.

    It is never later than *epoch*, in seconds since 1970, where that is given.
    """
    return time(datetime.now(UTC), epoch)


def time(moment: datetime, epoch: int | None = None) -> str:
    """Return *moment*, or *epoch* where that is given and earlier, as :func:`now` does."""
    if epoch is None or moment.timestamp() <= epoch:
        moment = moment.astimezone(UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def entry(text: str) -> History:
    """Return the entry of an instruction that only changed the config."""
    return History(created_by=text, comment=COMMENT, empty_layer=True)


def run_entry(argv: Sequence[str], arguments: Sequence[tuple[str, str]]) -> History:
    """Return the entry of a RUN that saw these build arguments."""
    words = [f"{name}={value}" for name, value in arguments]
    if words:
        words.insert(0, f"|{len(words)}")
    return _changed(" ".join(["RUN", *words, *argv]))


def copy_entry(instruction: Copy | Add) -> History:
    """Return the entry of a COPY or ADD whose words are expanded."""
    words = ["COPY" if isinstance(instruction, Copy) else "ADD"]
    if isinstance(instruction, Copy) and instruction.parents:
        words.append("--parents")
    if instruction.chown:
        words.append(f"--chown={instruction.chown}")
    if instruction.chmod:
        words.append(f"--chmod={instruction.chmod}")
    inline = [f"<<{heredoc.name}" for heredoc in instruction.heredocs]
    words += [source for source in instruction.sources if source not in inline]
    return _changed(" ".join([*words, *inline, instruction.destination]))


def context_entry(name: str) -> History:
    """Return the entry of a stage that starts from the files of a named context."""
    return _changed(f"FROM {name}")


def workdir_entry(path: str) -> History:
    """Return the entry of a WORKDIR; any but ``/`` has a layer, be it an empty one."""
    return History(created_by=f"WORKDIR {path}", comment=COMMENT, empty_layer=path == "/")


def words(values: Sequence[str]) -> str:
    """Print a list as Go's ``%v`` does."""
    return f"[{' '.join(values)}]"


def quoted_words(values: Sequence[str]) -> str:
    """Print a list as Go's ``%q`` does."""
    return words([_quoted(value) for value in values])


def healthcheck(instruction: Healthcheck) -> tuple[Json, str]:
    """Return a HEALTHCHECK as the config's JSON object, and as history prints it."""
    test = _test(instruction)
    durations = {
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
    }
    fields = {"Test": test, **durations, "Retries": instruction.retries}
    printed = " ".join(f"{name}:{duration(value)}" for name, value in durations.items())
    text = f"{{Test:{words(test)} {printed} Retries:{instruction.retries}}}"
    return {name: value for name, value in fields.items() if value}, text


def duration(nanoseconds: int) -> str:
    """Print a duration of no negative length as Go does: ``1h0m3.5s``, ``250ms``, ``0s``."""
    if nanoseconds < _SECOND:
        for unit, length in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if nanoseconds >= length:
                return _decimal(nanoseconds, length) + unit
        return "0s"
    hours, rest = divmod(nanoseconds, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    text = f"{_decimal(rest, _SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def run_text(command: str, heredocs: Sequence[Heredoc]) -> str:
    """Return what a RUN with here-documents hands to the shell.

    A here-document that is the whole command is what the shell is to do; one that begins with
    ``#!`` is a program of its own. Others are the shell's to read.
    """
    if not heredocs:
        return command
    script = run_script(command, heredocs)
    if script is not None:
        return script[0]
    if opening(command) is not None:
        return heredocs[0].body
    return command + "".join(f"\n{item.content}{item.name}" for item in heredocs)


def run_script(command: str, heredocs: Sequence[Heredoc]) -> tuple[str, str] | None:
    """Return path and content of the program that a RUN's here-document is; None if it is none."""
    if opening(command) is None or not heredocs:
        return None
    body = heredocs[0].body
    return (f"{_PROGRAMS}/{heredocs[0].name}", body) if body.startswith("#!") else None


def _changed(text: str) -> History:
    return History(created_by=text + _CHANGED, comment=COMMENT)


def _test(instruction: Healthcheck) -> list[str]:
    command = instruction.command
    if command is None:
        return ["NONE"]
    return ["CMD-SHELL" if command.shell else "CMD", *command.argv]


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _quoted(value: str) -> str:
    return '"' + "".join(_quoted_character(character) for character in value) + '"'


def _quoted_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    # Bytes that are no UTF-8 come as lone surrogates (PEP 383); Go prints the byte.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
