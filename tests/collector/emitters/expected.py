"""What is right for the recorded spans: attributes that both branches have after the Collector.

Written from what the stand-in upstream answered (its token counts are exact) and from the gen_ai
semantic conventions, not from what the Collector makes of it.
"""

from __future__ import annotations

from typing import Any

from otelbridge import semconv as s


class _Absent:
    """An attribute that must not be there."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()
ANY_SECONDS = float  # any double above zero


def call(operation: str, model: str | None, *tokens: int, provider: Any = "openai", **more: Any):
    """Expected attributes of a model call that succeeded: input and output tokens, if any."""
    expected: dict[str, Any] = {
        s.GEN_AI_OPERATION_NAME: operation,
        s.GEN_AI_PROVIDER_NAME: provider,
        s.GEN_AI_SYSTEM: provider,
        s.GEN_AI_REQUEST_MODEL: model,
    }
    names = (s.GEN_AI_USAGE_INPUT_TOKENS, s.GEN_AI_USAGE_OUTPUT_TOKENS)
    expected.update(zip(names, tokens, strict=False))
    return expected | {key: value for key, value in more.items() if value is not None}


def used(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Token counts alone: of an emitter that does not name the provider."""
    return {
        s.GEN_AI_USAGE_INPUT_TOKENS: input_tokens,
        s.GEN_AI_USAGE_OUTPUT_TOKENS: output_tokens,
    }


def chat(*tokens: int, answered: bool = True, **more: Any) -> dict[str, Any]:
    """A call of gpt-4o; its answer names the model too."""
    expected = call("chat", "gpt-4o", *tokens, **more)
    return expected | ({s.GEN_AI_RESPONSE_MODEL: "gpt-4o"} if answered else {})


def embeddings(**more: Any) -> dict[str, Any]:
    """The call of the embedding model: input tokens only."""
    return call("embeddings", "text-embedding-3-small", 8, **more)


def step(operation: Any, **more: Any) -> dict[str, Any]:
    """A span that is no model call."""
    return {s.GEN_AI_OPERATION_NAME: operation, **more}


#: What the stand-in upstream counted: input and output tokens of each step of scenarios.py.
ASKED, STREAMED, TOOL_ASKED, TOOL_ANSWERED = (64, 52), (27, 15), (32, 57), (47, 33)
TOOL = {s.GEN_AI_TOOL_NAME: "lookup_order"}
CLERK = {s.GEN_AI_AGENT_NAME: "clerk"}
CONVERSATION = {s.GEN_AI_CONVERSATION_ID: "conversation-7"}
WHO = {s.USER_ID: "user-123", s.SESSION_ID: "conversation-7"}
COST = {s.GEN_AI_USAGE_COST: 0.00068}
CHUNK = {s.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: ANY_SECONDS}
LOGFIRE_CHAT = "Chat Completion with {request_data[model]!r}"
LOGFIRE_STREAM = "streaming response from {request_data[model]!r} took {duration:.2f}s"
STOPPED = {s.GEN_AI_RESPONSE_FINISH_REASONS: ["stop"]}
CLAUDE = "claude-sonnet-4-5"

#: Emitter → (span name, which of that name by start time, expected attributes on both sides).
ROWS: dict[str, list[tuple[str, int, dict[str, Any]]]] = {
    "anthropic": [
        (
            "anthropic.messages.create",
            0,
            call("chat", CLAUDE, 79, 9, provider="anthropic")
            | {s.GEN_AI_RESPONSE_MODEL: CLAUDE, s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 16},
        ),
        (
            "anthropic.messages.create",
            1,
            call("chat", CLAUDE, 42, 9, provider="anthropic") | CHUNK,
        ),
        ("anthropic.messages.create", 2, call("chat", CLAUDE, 47, 9, provider="anthropic")),
        (
            "anthropic.messages.create",
            4,
            call("chat", CLAUDE, provider="anthropic") | {s.ERROR_TYPE: "rate_limit_error"},
        ),
    ],
    "genai_openai": [
        ("chat gpt-4o", 0, chat(*ASKED)),
        ("chat gpt-4o", 1, chat(*STREAMED) | CHUNK),
        ("chat gpt-4o", 2, chat(answered=False) | {s.ERROR_TYPE: "openai.RateLimitError"}),
        ("chat gpt-4o", 3, chat(*TOOL_ASKED) | CONVERSATION),
        ("chat gpt-4o", 4, chat(*TOOL_ANSWERED) | CONVERSATION),
        ("embeddings text-embedding-3-small", 0, embeddings()),
        ("retrieval handbook", 0, step("retrieval") | {s.GEN_AI_DATA_SOURCE_ID: "handbook"}),
        ("execute_tool lookup_order", 0, step("execute_tool") | TOOL),
        ("invoke_agent clerk", 0, step("invoke_agent") | CLERK | CONVERSATION),
    ],
    "langchain": [
        ("ChatOpenAI", 0, chat(*ASKED, answered=False) | WHO | CONVERSATION),
        # asked for no usage with the stream
        ("ChatOpenAI", 1, chat(answered=False) | {s.GEN_AI_USAGE_INPUT_TOKENS: ABSENT}),
        ("ChatOpenAI", 2, chat(*TOOL_ASKED, answered=False)),
        ("ChatOpenAI", 3, chat(*TOOL_ANSWERED, answered=False)),
        ("ChatOpenAI", 4, chat(answered=False)),
        ("RunnableSequence", 0, step("invoke_workflow") | CONVERSATION),
        ("ChatPromptTemplate", 0, step(ABSENT)),
        ("Handbook", 0, step("retrieval")),
        ("lookup_order", 0, step("execute_tool") | TOOL),
        ("clerk", 0, step("invoke_workflow")),  # LangGraph calls its graph a chain
        ("agent", 0, step("invoke_agent")),
    ],
    "langfuse": [
        ("OpenAI-generation", 0, {s.GEN_AI_OPERATION_NAME: "chat"} | WHO),
        ("OpenAI-generation", 0, used(*ASKED) | {s.GEN_AI_REQUEST_MODEL: "gpt-4o"}),
        ("OpenAI-generation", 1, used(*STREAMED)),
        ("OpenAI-embedding", 0, step("embeddings") | {s.GEN_AI_USAGE_INPUT_TOKENS: 8}),
        ("own call", 0, used(11, 7) | {s.GEN_AI_USAGE_COST: 0.0001}),
        # No attribute has the names of tool and agent: they are the names of the spans.
        ("lookup_order", 0, step("execute_tool")),
        ("clerk", 0, step("invoke_agent")),
        ("search", 0, step("retrieval")),
    ],
    "litellm": [
        ("POST /ask", 0, chat(*ASKED) | COST),
        ("litellm_request", 0, chat(*ASKED) | COST | {s.USER_ID: "user-123"}),
        ("litellm_request", 1, chat(*STREAMED) | STOPPED),
        ("litellm_request", 2, chat(*TOOL_ASKED)),
        ("litellm_request", 3, chat(*TOOL_ANSWERED)),
        ("litellm_request", 4, embeddings(provider=ABSENT)),  # it sends an empty provider
        ("litellm_request", 5, chat(answered=False) | {s.ERROR_TYPE: "RateLimitError"}),
    ],
    "logfire": [
        (LOGFIRE_CHAT, 0, chat(*ASKED) | COST | STOPPED),
        (LOGFIRE_CHAT, 1, chat() | {s.GEN_AI_USAGE_INPUT_TOKENS: ABSENT}),
        (LOGFIRE_STREAM, 0, chat(*STREAMED)),  # a log: the only one that knows the usage
        (LOGFIRE_CHAT, 2, chat(*TOOL_ASKED)),
        (LOGFIRE_CHAT, 3, chat(*TOOL_ANSWERED)),
        ("Embedding Creation with {request_data[model]!r}", 0, embeddings()),
    ],
    "openinference": [
        ("ChatCompletion", 0, chat(*ASKED, answered=False) | WHO | CONVERSATION),
        ("ChatCompletion", 1, chat(*STREAMED, answered=False)),
        ("ChatCompletion", 2, chat(*TOOL_ASKED, answered=False)),
        ("ChatCompletion", 3, chat(*TOOL_ANSWERED, answered=False)),
        ("CreateEmbeddings", 0, embeddings()),
        ("search", 0, step("retrieval")),
        ("rank", 0, step("rerank") | {s.GEN_AI_REQUEST_MODEL: "ranker-1"}),
        ("lookup_order", 0, step("execute_tool") | TOOL | CONVERSATION),
        ("answer", 0, step("invoke_workflow")),
        ("clerk", 0, step("invoke_agent") | CONVERSATION),  # no key has the agent's name
    ],
    "openllmetry": [
        ("openai.chat", 0, chat(*ASKED)),
        ("openai.chat", 0, WHO),
        ("openai.chat", 1, chat(*STREAMED)),
        ("openai.chat", 2, chat(*TOOL_ASKED)),
        ("openai.chat", 3, chat(*TOOL_ANSWERED)),
        ("openai.embeddings", 0, embeddings()),
        ("search.task", 0, step(ABSENT) | WHO),
        ("lookup_order.tool", 0, step("execute_tool") | TOOL | WHO),
        ("clerk.agent", 0, step("invoke_agent") | CLERK),
        ("answer.workflow", 0, step("invoke_workflow") | {s.GEN_AI_WORKFLOW_NAME: "answer"}),
    ],
    "openllmetry_old": [
        ("openai.chat", 0, chat(*ASKED)),
        ("openai.chat", 1, chat() | {s.GEN_AI_USAGE_INPUT_TOKENS: ABSENT}),  # it counts none here
        ("openai.chat", 2, chat(*TOOL_ASKED)),
        ("openai.chat", 3, chat(*TOOL_ANSWERED)),
        ("openai.embeddings", 0, embeddings()),
        ("openai.chat", 4, chat(answered=False)),
    ],
    "otelbridge": [
        ("chat gpt-4o", 0, chat(*ASKED) | COST | WHO | CONVERSATION),
        ("chat gpt-4o", 1, chat(*STREAMED) | CHUNK),
        ("chat gpt-4o", 2, chat(*TOOL_ASKED)),
        ("embeddings text-embedding-3-small", 0, embeddings()),
        ("retrieval handbook", 0, step("retrieval")),
        ("execute_tool lookup_order", 0, step("execute_tool") | TOOL),
        ("invoke_agent clerk", 0, step("invoke_agent") | CLERK | CONVERSATION),
    ],
    "pydantic_ai": [
        ("chat gpt-4o", 0, chat(*ASKED) | COST),
        ("chat gpt-4o", 1, chat(*STREAMED)),
        ("chat gpt-4o", 2, chat(*TOOL_ASKED) | CONVERSATION),
        ("chat gpt-4o", 3, chat(*TOOL_ANSWERED) | CONVERSATION),
        ("embeddings text-embedding-3-small", 0, embeddings()),
        ("execute_tool lookup_order", 0, step("execute_tool") | TOOL | CONVERSATION),
        ("invoke_agent clerk", 0, step("invoke_agent") | CLERK | CONVERSATION),
        # totals of the calls below stay under names of their own, else they would count twice
        ("invoke_agent clerk", 0, {s.GEN_AI_USAGE_INPUT_TOKENS: ABSENT}),
    ],
    "strands": [
        # it names itself where the provider belongs
        ("chat", 0, call("chat", "gpt-4o", *ASKED, provider="strands-agents") | WHO),
        ("chat", 1, call("chat", "gpt-4o", *TOOL_ASKED, provider="strands-agents")),
        ("chat", 2, call("chat", "gpt-4o", *TOOL_ANSWERED, provider="strands-agents")),
        ("execute_tool lookup_order", 0, step("execute_tool") | TOOL | WHO),
        ("invoke_agent clerk", 0, step("invoke_agent") | CLERK),
    ],
    "vercel": [
        ("ai.generateText.doGenerate", 0, chat(*ASKED)),
        ("ai.generateText.doGenerate", 0, WHO),
        ("ai.streamText.doStream", 0, chat(*STREAMED) | CHUNK),
        ("ai.generateText.doGenerate", 1, chat(*TOOL_ASKED)),
        ("ai.generateText.doGenerate", 2, chat(*TOOL_ANSWERED)),
        ("ai.generateObject.doGenerate", 0, chat(*STREAMED)),
        ("ai.embed.doEmbed", 0, embeddings()),
        ("ai.toolCall", 0, step("execute_tool") | TOOL),
        # repeats the totals of the calls below it: no `chat`, or they would count twice
        ("ai.generateText", 0, step("invoke_agent") | {s.GEN_AI_PROVIDER_NAME: "openai"}),
    ],
}
