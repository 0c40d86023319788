"""A small collector of traces: OTLP over HTTP, as the protocol's own library reads it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was sent; *parent* and *trace* are hexadecimal, *error* its status."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    error: str | None
    start: int
    end: int


@dataclass(slots=True)
class Collector:
    """What was sent; answers with *status*, after *gate* is opened where there is one."""

    address: str = ""
    status: int = 200
    gate: threading.Event | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    raw: bytes = b""

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def only(self, name: str) -> Seen:
        (span,) = self.named(name)
        return span

    def take(self, body: bytes) -> None:
        self.raw += body
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.resources.append(_values(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += map(_seen, scope.spans)


def _seen(span: Any) -> Seen:
    return Seen(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _values(span.attributes),
        {event.name: _values(event.attributes) for event in span.events},
        span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port for as long as the block lasts."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests.append((self.path, dict(self.headers.items())))
            if collector.gate is not None:
                collector.gate.wait(30)
            if collector.status == 200:
                coded = self.headers.get("Content-Encoding") == "gzip"
                collector.take(gzip.decompress(body) if coded else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        if collector.gate is not None:
            collector.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
