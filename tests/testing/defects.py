"""Seeded instrumentation defects: a service that is wrong, its correct twin, the test that tells.

Each app is a module with one function `ask`; what differs stands in `{...}` and is filled in from
`wrong` or `right`. Each test is a whole file of five lines at most.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

HEAD = """\
import threading
import otelbridge
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

tracer = trace.get_tracer("clerk")
QUESTION = "How many geese crossed the road?"
ANSWER = "Forty, in two lines of twenty."
CHAT = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 30, "gen_ai.usage.cost": 0.00033,
}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}


def request():
    return tracer.start_as_current_span("POST /ask", kind=SpanKind.SERVER)


def agent(**more):
    return tracer.start_as_current_span("invoke_agent clerk", attributes={**AGENT, **more})


def chat(attributes=CHAT, **options):
    return tracer.start_as_current_span("chat gpt-4o", attributes=attributes, **options)


def without(key):
    return {name: value for name, value in CHAT.items() if name != key}
"""
TEST = """\
from app_{name} import ask
def test_{name}(traces):
    ask()
    {assertion}
"""


@dataclass(frozen=True)
class Defect:
    """A fault of instrumentation; `finding` is what a failing test has to say."""

    body: str
    wrong: str
    right: str
    assertion: str
    finding: str

    def app(self, *, right: bool) -> str:
        """The module of the service."""
        body = textwrap.dedent(self.body).replace("...", self.right if right else self.wrong)
        return f"{HEAD}\n\n{body}"


DEFECTS = {
    "missing_usage": Defect(
        """
        def ask():
            with request(), otelbridge.chat("gpt-4o", provider="openai", messages=QUESTION) as call:
                call.set_output(ANSWER)
                ...
        """,
        "pass",
        "call.set_usage(input_tokens=12, output_tokens=30)",
        """traces.assert_every('{ span.gen_ai.operation.name = "chat" }', """
        """'{ span.gen_ai.usage.input_tokens > 0 && span.gen_ai.usage.output_tokens > 0 }')""",
        "span.gen_ai.usage.input_tokens is absent",
    ),
    "wrong_parent": Defect(
        """
        def ask():
            with request() as root:
                with agent():
                    with chat(context=...):
                        pass
        """,
        "trace.set_span_in_context(root)",
        "None",
        """traces.assert_one('{ name = "invoke_agent clerk" } > { name = "chat gpt-4o" }')""",
        "'chat gpt-4o' is below POST /ask",
    ),
    "leaked_prompt": Defect(
        """
        def ask():
            with request() as root:
                root.set_attribute("app.question", ...)
                with otelbridge.chat("gpt-4o", provider="openai", messages=QUESTION) as call:
                    call.set_output(ANSWER)
        """,
        "QUESTION",
        "len(QUESTION)",
        "traces.assert_no_content_outside_view()",
        "'POST /ask' repeats message text in app.question",
    ),
    "swallowed_error": Defect(
        """
        def ask():
            with request(), chat() as span:
                try:
                    raise TimeoutError("the model did not answer")
                except TimeoutError as error:
                    ...
        """,
        "return None",
        "span.set_status(StatusCode.ERROR, str(error))",
        """traces.assert_one('{ name = "chat gpt-4o" && status = error }')""",
        "status is 'unset'",
    ),
    "missing_model": Defect(
        """
        def ask():
            with request(), chat(...):
                pass
        """,
        'without("gen_ai.request.model")',
        "CHAT",
        """traces.assert_every('{ span.gen_ai.operation.name = "chat" }', """
        """'{ span.gen_ai.request.model != nil }')""",
        "span.gen_ai.request.model is absent",
    ),
    "wrong_operation": Defect(
        """
        def ask():
            with request(), chat({**CHAT, "gen_ai.operation.name": ...}):
                pass
        """,
        '"chat_completion"',
        '"chat"',
        """traces.assert_every('{ span.gen_ai.provider.name != nil }', """
        """'{ span.gen_ai.operation.name =~ "chat|embeddings|execute_tool" }')""",
        "span.gen_ai.operation.name is 'chat_completion'",
    ),
    "tokens_as_text": Defect(
        """
        def ask():
            with request(), chat({**CHAT, "gen_ai.usage.input_tokens": ...}):
                pass
        """,
        '"12"',
        "12",
        "assert traces.tokens() == (12, 30)",
        "gen_ai.usage.input_tokens of 'chat gpt-4o' is '12', not a whole number",
    ),
    "missing_cost": Defect(
        """
        def ask():
            with request(), chat(...):
                pass
        """,
        'without("gen_ai.usage.cost")',
        "CHAT",
        """traces.assert_every('{ span.gen_ai.operation.name = "chat" }', """
        """'{ span.gen_ai.usage.cost > 0.0 }')""",
        "span.gen_ai.usage.cost is absent",
    ),
    "negative_cost": Defect(
        """
        def ask():
            with request(), chat({**CHAT, "gen_ai.usage.cost": ...}):
                pass
        """,
        "-0.00033",
        "0.00033",
        "assert 0 < traces.cost_usd() < 0.001",
        "gen_ai.usage.cost of 'chat gpt-4o' is -0.00033, not a number of 0 or more",
    ),
    "user_only_on_the_root": Defect(
        """
        def ask():
            with ... as root:
                with chat():
                    pass
        """,
        'tracer.start_as_current_span("POST /ask", attributes={"user.id": "u-1"})',
        'otelbridge.request_context(user_id="u-1"), request()',
        """traces.assert_every('{ }', '{ span.user.id = "u-1" }')""",
        "1 of 2 spans of { } are not in { span.user.id = \"u-1\" }",
    ),
    "never_ended": Defect(
        """
        def ask():
            with request():
                span = tracer.start_span("chat gpt-4o", attributes=CHAT)
                ...
        """,
        "pass",
        "span.end()",
        "traces.assert_all_ended()",
        "'chat gpt-4o' was not ended",
    ),
    "orphan_in_the_view": Defect(
        """
        def ask():
            with request(), agent() as span:
                span.set_attribute("otelbridge.llm.keep", ...)
                with chat():
                    pass
        """,
        "False",
        "True",
        "traces.assert_no_orphans(view='langfuse')",
        "'invoke_agent clerk', which is not kept",
    ),
    "parent_of_another_provider": Defect(
        """
        own = TracerProvider(shutdown_on_exit=False).get_tracer("clerk")


        def ask():
            with request():
                with ....start_as_current_span("invoke_agent clerk", attributes=AGENT):
                    with chat():
                        pass
        """,
        "own",
        "tracer",
        "traces.assert_no_orphans()",
        "'chat gpt-4o' is an orphan",
    ),
    "duplicate_span": Defect(
        """
        def ask():
            with request(), chat():
                with otelbridge.chat(..., provider="openai", messages=QUESTION) as call:
                    call.set_output(ANSWER)
        """,
        '"gpt-4o"',
        '"gpt-4o-mini"',
        """traces.assert_one('{ name = "chat gpt-4o" }')""",
        "exactly 1 span expected, 2 found",
    ),
    "totals_counted_twice": Defect(
        """
        def ask():
            with request(), agent(**...), chat():
                pass
        """,
        '{"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 30}',
        "{}",
        "assert traces.tokens() == (12, 30)",
        "Tokens(input=24, output=60)",
    ),
    "secret_in_a_message": Defect(
        """
        def ask():
            with request(), chat() as span:
                span.set_status(StatusCode.ERROR, "401 for key " + ...)
        """,
        '"sk-proj-aaaaaaaaaaaaaaaaaaaa"',
        '"number 3"',
        "traces.assert_no_secrets()",
        "'chat gpt-4o' has a secret (api-key) in its status message",
    ),
}  # fmt: skip
