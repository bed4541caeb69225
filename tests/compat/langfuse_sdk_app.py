"""An application with the Langfuse SDK's own v3-v5 code, run by `test_langfuse_sdk` as a process.

Arguments: when otelbridge is configured (`first`, `late`, `never`). The environment says where
spans go; prints nothing of its own.
"""

import asyncio
import sys

import otelbridge

ORDER = sys.argv[1]
if ORDER == "first":
    otelbridge.configure()

from langfuse import get_client, observe, propagate_attributes  # noqa: E402 - the order is the test

if ORDER == "late":
    get_client()
    otelbridge.configure()


@observe(name="answer")
async def answer(question: str) -> str:
    with propagate_attributes(user_id="u-1", session_id="s-1"):
        return generate(question)


@observe(as_type="generation")
def generate(question: str) -> str:
    get_client().update_current_generation(model="gpt-4o", usage_details={"input": 3, "output": 4})
    with otelbridge.retrieval("kb", query=question):
        pass
    return "answer"


with otelbridge.span("request"):
    asyncio.run(answer("why"))
with get_client().start_as_current_observation(name="alone", as_type="tool"):
    pass
get_client().flush()
otelbridge.flush()
