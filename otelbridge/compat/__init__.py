"""Older tracing APIs over the same core: code written for them runs as it is, in the shared trace.

`manager` and `tracer` are shapes that teams have around the Langfuse SDK, `langfuse_v2` is the
SDK's own of version 2. The SDK of versions 3 to 5 needs nothing of this: it runs through
otelbridge's provider once `configure()` was called (`integrations.langfuse_sdk`).
"""

from otelbridge.compat._off import NO_OP, NoOp
from otelbridge.integrations.langfuse_v2 import install, uninstall

__all__ = ["NO_OP", "NoOp", "install", "uninstall"]
