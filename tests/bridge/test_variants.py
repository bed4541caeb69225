"""A variant chosen in one service is on every span of the request, in it and behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from otelbridge import request_context, semconv, variant
from otelbridge.langfuse.experiments import assigned
from tests.bridge.conftest import Bridge

HALVES = {"A": 0.5, "B": 0.5}
EXPERIMENT = semconv.LANGFUSE_TRACE_METADATA_PREFIX + "experiment.checkout"


def test_concurrent_users_keep_their_variants(bridge: Bridge, llm_call: Callable[..., Any]) -> None:
    """24 users at once through two services: one variant in each trace, and the user's own."""
    bridge.start()
    rag, gateway = bridge.app("rag"), bridge.app("gateway")

    @rag.get("/answer")
    def answer() -> str:
        with llm_call("chat"):
            return variant("checkout", HALVES, random=True)  # the gateway's, not the dice's

    rag_url = bridge.serve(rag)

    @gateway.get("/ask/<user>")
    def ask(user: str) -> str:
        with request_context(user_id=user):
            with llm_call("plan"):
                chosen = variant("checkout", HALVES)
            assert httpx.get(f"{rag_url}/answer").text == chosen
            return chosen

    url = bridge.serve(gateway)
    users = [f"user-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda user: httpx.get(f"{url}/ask/{user}", timeout=30).text, users))
    assert given == [assigned("checkout", user, HALVES) for user in users]

    marked = 0
    for one in bridge.spans():
        if one.parent is None:
            continue  # the test's own client
        assert one.attributes is not None
        user = one.attributes[semconv.USER_ID]
        expected = assigned("checkout", user, HALVES)
        assert one.attributes[semconv.VARIANT] == expected, one.name
        assert one.attributes[EXPERIMENT] == expected
        assert list(one.attributes[semconv.LANGFUSE_TRACE_TAGS]) == ["experiment:checkout"]
        marked += 1
    assert marked == 24 * 5, "entry, plan, client, entry, chat"
