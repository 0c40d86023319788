"""What the environment says about traces.

Sources: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry
Protocol Exporter"; Go kaniko's ``docs/telemetry-attributes.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from kaniko_core.lean import dataclass
from kaniko_core.progress import Warned
from kaniko_core.values import boolean

_OURS = "KANIKO_TELEMETRY_ENDPOINT"
_OMIT = "KANIKO_TELEMETRY_OMIT_DOCKERFILE"
_EXPORTER = "OTEL_TRACES_EXPORTER"
_DISABLED = "OTEL_SDK_DISABLED"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_TRACES = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Settings:
    """Whether and where to traces are sent.

    Attributes:
        on: somebody asks for them, in a way that we understand.
        endpoint: the address, where it is not for OpenTelemetry's variables to say.
        place: where they go, for messages: a host, never with a password.
        omit_text: what is quoted from the Dockerfile is left out.
        parent: the trace that this one belongs to, as W3C's headers.
        names_service: OpenTelemetry's variables name the service themselves.
        limits_values: they say how long a value may be.
        limits_time: they say how long sending may take.
        complaints: what the user should know.
    """

    on: bool = False
    endpoint: str | None = None
    place: str = ""
    omit_text: bool = False
    parent: tuple[tuple[str, str], ...] = ()
    names_service: bool = False
    limits_values: bool = False
    limits_time: bool = False
    complaints: tuple[Warned, ...] = ()


def settings(environ: Mapping[str, str]) -> Settings:
    """Return what *environ* says; an empty variable counts as one that is not there."""
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    ours = given.get(_OURS)
    exporters = {word.strip() for word in given.get(_EXPORTER, "").split(",")} - {""}
    asked = ours or "otlp" in exporters or any(name in given for name in _ENDPOINTS)
    if given.get(_DISABLED, "").lower() == "true" or exporters == {"none"}:
        return Settings()
    if not asked and not exporters:
        return Settings()
    complaint = _complaint(given, exporters)
    if complaint is not None:
        return Settings(complaints=(complaint,))
    omit = boolean(given.get(_OMIT, "false"))
    doubts = () if omit is not None else (_doubt(),)
    resource = given.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Settings(
        on=True,
        endpoint=_with_path(ours) if ours else None,
        place=_place(_address(given)),
        omit_text=omit is not False,
        parent=tuple(
            (name.lower(), given[name]) for name in ("TRACEPARENT", "TRACESTATE") if name in given
        ),
        names_service="OTEL_SERVICE_NAME" in given or "service.name=" in resource,
        limits_values=any(name.endswith("ATTRIBUTE_VALUE_LENGTH_LIMIT") for name in given),
        limits_time=any(
            name in given
            for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
        ),
        complaints=doubts,
    )


def _complaint(given: Mapping[str, str], exporters: set[str]) -> Warned | None:
    """Return why traces that are asked for cannot be sent, if so."""
    if exporters and "otlp" not in exporters and _OURS not in given:
        return Warned(
            f"no traces are sent: {_EXPORTER} names {', '.join(sorted(exporters))}",
            hint=f"traces are sent by OTLP only: {_EXPORTER}=otlp",
        )
    protocol = next((given[name] for name in _PROTOCOLS if name in given), _PROTOCOL)
    if _OURS not in given and protocol != _PROTOCOL:
        return Warned(
            f"no traces are sent: the protocol {protocol} is not spoken here",
            hint=f"set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}; collectors take it on port 4318",
        )
    name, address = next(
        ((name, given[name]) for name in (_OURS, *_ENDPOINTS) if name in given), ("", "")
    )
    if name and _place(address) == "":
        return Warned(
            f"no traces are sent: {name} is no address",
            hint="an address looks like http://collector:4318",
        )
    return None


def _doubt() -> Warned:
    return Warned(
        f"{_OMIT} is neither true nor false: text of the Dockerfile is left out of traces",
        hint=f"set {_OMIT} to true or false",
    )


def _address(given: Mapping[str, str]) -> str:
    names = (_OURS, *_ENDPOINTS)
    return next((given[name] for name in names if name in given), "http://localhost:4318")


def _place(address: str) -> str:
    """Return the host and port of *address*, or nothing if it is none."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host + port


def _with_path(address: str) -> str:
    return address.rstrip("/") + _TRACES if urlsplit(address).path in {"", "/"} else address
