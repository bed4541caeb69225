"""Reading a request body with a limit, shared by the OTLP port and the Langfuse preview.

Raises `IngestError` instead of reading on: a sender cannot make the process hold more than the
limit of `otlp_decode`.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from otelbridge.errors import IngestError
from otelbridge.local.receivers.otlp_decode import MAX_BODY_BYTES
from otelbridge.local.records import Batch, BatchWriter


async def read_body(request: Request, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The raw body; `IngestError` 413 as soon as it is larger than `max_bytes`."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise IngestError(
                f"request body is larger than {max_bytes} bytes; send less", status=413
            )
        parts.append(part)
    return b"".join(parts)


async def store_batch(write: BatchWriter, batch: Batch) -> None:
    """Write and wait for the commit; `IngestError` 429 or `StoreError` when it did not happen."""
    await asyncio.wrap_future(write(batch))
