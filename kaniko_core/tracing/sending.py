"""Spans on their way to a collector: in the background, and never waited for long."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kaniko_core.progress import Progress, Warned
from kaniko_core.tracing.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Tracer

# As Go kaniko has it.
_SERVICE = "kaniko"
# Characters of one value, which may be the text of a long heredoc; Go kaniko's limit.
_LONGEST_VALUE = 64 << 10
# Seconds: for one attempt to send with all its retries, and for everything at the end.
_TIMEOUT = 4
_LAST_WAIT = 5.0


class Sending:
    """An open way to a collector.

    Attributes:
        tracer: begins spans.
        parent: the trace that ours belongs to; empty if it is one of its own.
    """

    def __init__(self, provider: TracerProvider, parent: Context, exporter: _Exporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self.tracer: Tracer = provider.get_tracer("kaniko_core")
        self.parent = parent

    def close(self) -> None:
        """Send what is left, if that does not take long."""
        # The library waits for half a minute, whatever it is told.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_LAST_WAIT)
        if last.is_alive():
            self._exporter.complain("it takes too long")


class _Exporter:
    """Sends spans until that fails; from then on they are dropped.

    A SpanExporter by shape: without the library there would be nothing to inherit from.
    """

    def __init__(self, inner: SpanExporter, place: str, progress: Progress) -> None:
        self._inner = inner
        self._place = place
        self._progress = progress
        self._lock = threading.Lock()
        self._failed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._failed:
            return SpanExportResult.FAILURE
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.complain("it cannot be reached, or refuses them")
        return result

    def complain(self, why: str) -> None:
        """Tell once that traces are lost."""
        with self._lock:
            told, self._failed = self._failed, True
        if not told:
            self._progress(
                Warned(
                    f"traces cannot be sent to {self._place}: {why}",
                    hint="the build is none the worse for it; look at the address and headers in "
                    "the OTEL_ variables",
                )
            )

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)


def open_sending(wanted: Settings, progress: Progress, version: str) -> Sending:
    """Return a way to the collector that the environment names; nothing is sent yet.

    Raises:
        ImportError: OpenTelemetry is not installed.
        Exception: whatever it says to the variables.
    """
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    inner = OTLPSpanExporter(
        endpoint=wanted.endpoint, timeout=None if wanted.limits_time else _TIMEOUT
    )
    exporter = _Exporter(inner, wanted.place, progress)
    attributes = {"service.version": version}
    if not wanted.names_service:
        attributes["service.name"] = _SERVICE
    provider = TracerProvider(
        resource=Resource.create(attributes),
        span_limits=None
        if wanted.limits_values
        else SpanLimits(max_span_attribute_length=_LONGEST_VALUE),
        # It would wait at the end of the program, however it ends.
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", exporter)))
    parent = TraceContextTextMapPropagator().extract(dict(wanted.parent), Context())
    return Sending(provider, parent, exporter)
