"""Several export paths as one: what `direct` export has in place of the one to the Collector."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan

from otelbridge.processors.pipeline import ExportPath


class Streams(ExportPath):
    """Several export paths that flush and end side by side: a dead one holds up only itself."""

    def __init__(self, *streams: ExportPath) -> None:
        self.streams = streams

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span to each."""
        for stream in self.streams:
            stream.on_end(span)

    def end(self, timeout_seconds: float | None = None) -> bool:
        """End all of them; whether each one lost nothing."""
        return self._each(lambda stream: stream.end(timeout_seconds))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush all of them; whether each one did."""
        return self._each(lambda stream: stream.force_flush(timeout_millis))

    def _each(self, action: Callable[[ExportPath], object]) -> bool:
        results: list[bool] = []

        def run(stream: ExportPath) -> None:
            results.append(action(stream) is not False)

        started = []
        for stream in self.streams:
            thread = threading.Thread(target=run, args=(stream,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # Python 3.12 starts no thread at the end of the program
                run(stream)
            else:
                started.append(thread)
        for thread in started:
            thread.join()
        return len(results) == len(self.streams) and all(results)
