"""Two hundred canaries for the Collector: where each is planted, and who may see it again.

A canary is a word that exists nowhere else, so that one search through raw bytes finds every leak,
cut ones included. *Content* canaries are free text in positions that hold message text in some
dialect; *secret* canaries are the vital part of a string of a masked kind, everywhere else a span
has text. Used by `test_mixed_emitters.py` on the recorded spans of `emitters/`; what no rule of the
Collector reaches is listed there and planted in spans of its own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import langfuse_policy, masks, policy, semconv
from tests.collector.conftest import to_any_value
from tests.collector.emitters import corpus
from tests.collector.mixing import position

#: Begins every canary and stands in no recorded text, so a cut canary is found as well.
STEM: Final = "cnry"
LEAK: Final = re.compile(rb"cnry[a-z0-9]{0,11}")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"

#: Content keys that the emitters' packages know and the recordings lack (emitters/README.md), and
#: those of emitters that are not recorded: each an instance of `policy.CONTENT_KEY_PATTERNS`.
UNRECORDED_KEYS: Final = (
    *("gen_ai.memory.query.text", "gen_ai.memory.records", "gen_ai.evaluation.explanation"),
    *("gen_ai.prompt", "gen_ai.completion", "gen_ai.event.content", "gen_ai.content"),
    *("gen_ai.prompt.variables", "gen_ai.prompt.variable.city", "gen_ai.completion.0.reasoning"),
    *("langfuse.trace.input", "langfuse.trace.output"),
    *("langfuse.observation.prompt.variables", "langfuse.prompt.variable.city"),
    *("llm.prompts.0.prompt.text", "llm.completions.0.completion.text", "llm.function_call"),
    *("llm.anthropic.system", "llm.bedrock.stringified_raw_response", "llm.gemini.contents"),
    *("message.content", "document.content", "tool_call.function.arguments"),
    *("tool_arguments", "tool_response", "ai.response.reasoning", "ai.input", "ai.output"),
    *("mlflow.spanInputs", "mlflow.spanOutputs"),
    *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.tool_response", "lk.chat_ctx"),
    *("lk.function_tool.output", "all_messages_events", "response_data"),
    *("prompt", "completion", "input", "output", "messages", "events"),
)
#: Message events: the deprecated ones of the conventions, and those with names of their own.
CONTENT_EVENTS: Final = (
    *("gen_ai.system.message", "gen_ai.user.message", "gen_ai.assistant.message"),
    *("gen_ai.tool.message", "gen_ai.choice", "gen_ai.content.prompt"),
    *("gen_ai.content.completion", "gen_ai.client.inference.operation.details"),
)

#: Strings of the masked kinds around a canary of fifteen letters and digits.
SECRETS: Final[tuple[tuple[str, str], ...]] = (
    ("private key", "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"),
    ("private key, cut", "-----BEGIN PRIVATE KEY-----\n{}\n{}"),
    ("JWT", "eyJ{}.eyJ{}.{}"),
    ("OpenAI key", "sk-proj-{}"),
    ("Anthropic key", "sk-ant-{}"),
    ("Langfuse key", "sk-lf-{}"),
    ("Google key", "AIza{}"),
    ("AWS key", "AKIA{}"),
    ("GitHub token", "github_pat_{}"),
    ("Slack token", "xoxb-{}"),
    ("Stripe key", "rk_live_{}"),
    ("Hugging Face token", "hf_{}"),
    ("bearer", "Authorization: Bearer {}"),
    ("bearer, lower case", "authorization=bearer {}"),
    ("basic", "Basic {}=="),
    ("password in a URL", "postgres://shop:{}@db.internal:5432/orders"),
    ("password without user", "redis://:{}@cache:6379/0"),
    ("parameter api_key", "https://api.example/v1?page=2&api_key={}&x=1"),
    ("parameter token", "/callback?token={}#top"),
    ("signed URL", "https://b.example/o?X-Amz-Signature={}&X-Amz-Date=1"),
    ("parameter code", "GET /oauth?code={}&state=1"),
    ("parameter password", "https://x.example/?user=a&password={}"),
    ("mail address", "{}@quartz-secret.example"),
    ("mail address with tag", "Jo <jo+{}@mail.quartz-secret.example>"),
)
#: How a secret stands in longer text.
FRAMES: Final = ("{}", "before {} after", '{{"detail": "{}"}}', "line\n{}\nline", "ü€ ({}) €")


@dataclass(frozen=True)
class Canary:
    """One canary: `word` is searched for, `plant` puts its text into a span."""

    word: str
    what: str
    content: bool
    emitter: str | None  # the recording whose spans hold the position; None: any gen_ai span
    key: str | None  # the key; with an emitter, the position that a carrier must have
    plant: Callable[[Span], None]

    @property
    def langfuse_has_it(self) -> bool:
        """Whether Langfuse is to receive it: content, unless its key misleads or holds headers."""
        key = (self.key or "").replace("<n>", "0")
        misleading = re.match(langfuse_policy.MISLEADING_KEY_PATTERN, key)
        headers = re.match(masks.CREDENTIAL_HEADER_PATTERN, key)
        return self.content and misleading is None and headers is None


def words(count: int, seed: int) -> list[str]:
    """Canaries of fifteen letters and digits."""
    rng = random.Random(seed)
    return [f"{STEM}{n:03d}{''.join(rng.choices(_LETTERS, k=8))}" for n in range(count)]


def set_attribute(holder: Any, key: str, value: Any) -> None:
    """Put an attribute in place of those with the same key (a span, an event, a link)."""
    kept = [item for item in holder.attributes if item.key != key]
    del holder.attributes[:]
    holder.attributes.extend(kept)
    made = value if isinstance(value, AnyValue) else to_any_value(value)
    holder.attributes.add(key=key).value.CopyFrom(made)


def as_map(word: str) -> AnyValue:
    """A map value that holds the word two levels down."""
    value = AnyValue()
    inner = value.kvlist_value.values.add(key="outer").value.kvlist_value.values.add(key="inner")
    inner.value.string_value = word
    return value


# -- content ---------------------------------------------------------------------------------------
def recorded_positions() -> list[tuple[str, str]]:
    """Emitter and position of each recorded attribute, of a span or an event, with message text."""
    found = set()
    for emitter in corpus.EMITTERS:
        for _, span in corpus.spans(emitter):
            holders = [("", span), *((event["name"], event) for event in span.get("events", ()))]
            for name, holder in holders:
                for key, value in corpus.pairs(holder).items():
                    content = policy.is_content_key(key) or policy.is_content_event(name)
                    if content and {"stringValue", "arrayValue"} & value.keys():
                        found.add((emitter, position(name, key)))
    return sorted(found)


def _in_recorded(where: str, word: str) -> Callable[[Span], None]:
    """Append the word to what the emitter recorded, in the shape it recorded it in."""

    def plant(span: Span) -> None:
        holders = [("", span.attributes), *((e.name, e.attributes) for e in span.events)]
        item = next(i for name, items in holders for i in items if position(name, i.key) == where)
        if item.value.WhichOneof("value") == "array_value":
            item.value.array_value.values.add(string_value=f"planted {word}")
            return
        text = item.value.string_value
        try:
            item.value.string_value = json.dumps([json.loads(text), f"planted {word}"])
        except ValueError:  # plain text, or a Python value written as text
            item.value.string_value = f"{text} planted {word}"

    return plant


def _as_attribute(key: str, value: Any) -> Callable[[Span], None]:
    return lambda span: set_attribute(span, key, value)


def _as_event(name: str, key: str, value: Any) -> Callable[[Span], None]:
    def plant(span: Span) -> None:
        event = span.events.add(name=name, time_unix_nano=span.start_time_unix_nano)
        set_attribute(event, key, value)

    return plant


def _content(take: Callable[[], str]) -> Iterable[Canary]:
    for emitter, where in recorded_positions():
        word = take()
        yield Canary(word, f"{emitter} {where}", True, emitter, where, _in_recorded(where, word))
    for number, key in enumerate(UNRECORDED_KEYS):
        word = take()
        value = (f"planted {word}", [f"planted {word}"], as_map(word))[number % 3]
        yield Canary(word, f"attribute {key}", True, None, key, _as_attribute(key, value))
    for name in CONTENT_EVENTS:
        word = take()
        key = "content" if name != "gen_ai.choice" else "message"
        yield Canary(word, f"event {name}", True, None, None, _as_event(name, key, word))
    for key in (semconv.GEN_AI_INPUT_MESSAGES, "gen_ai.prompt", "tool_arguments"):
        word = take()
        plant = _as_event("shop.step", key, f"planted {word}")
        yield Canary(word, f"event attribute {key}", True, None, None, plant)


# -- secrets ---------------------------------------------------------------------------------------
def _set_name(text: str) -> Callable[[Span], None]:
    def plant(span: Span) -> None:
        span.name = text

    return plant


def _set_status(text: str) -> Callable[[Span], None]:
    def plant(span: Span) -> None:
        span.status.code = 2
        span.status.message = text

    return plant


#: Places that are no content, and how a text gets there.
PLACES: Final[tuple[tuple[str, Callable[[str], Callable[[Span], None]]], ...]] = (
    ("span name", _set_name),
    ("status message", _set_status),
    ("exception message", lambda text: _as_event("exception", "exception.message", text)),
    ("stack trace", lambda text: _as_event("exception", "exception.stacktrace", text)),
    ("URL", lambda text: _as_attribute("url.full", text)),
    ("query", lambda text: _as_attribute("url.query", f"?{text}")),
    ("database statement", lambda text: _as_attribute("db.query.text", text)),
    ("baggage", lambda text: _as_attribute("baggage.shop", f"a=1,b={text}")),
    ("event name", lambda text: _as_event(text, "n", 1)),
    ("metadata", lambda text: _as_attribute("langfuse.trace.metadata.note", text)),
)
#: Captured headers, text or list: they go whole.
HEADERS: Final = ("authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token")


def _secrets(take: Callable[[], str]) -> Iterable[Canary]:
    for number in range(len(SECRETS) * 3):  # each kind in three places
        kind, shape = SECRETS[number % len(SECRETS)]
        place, planter = PLACES[(number + number // len(SECRETS)) % len(PLACES)]
        word = take()
        text = FRAMES[number % len(FRAMES)].format(shape.replace("{}", word))
        yield Canary(word, f"{kind}, {place}", False, None, None, planter(text))
    for header in HEADERS:
        for value in (lambda text: text, lambda text: [text]):
            word = take()
            key = f"http.request.header.{header}"
            yield Canary(word, key, False, None, None, _as_attribute(key, value(f"s={word}")))
    word = take()  # a secret in message text: masked for Langfuse, removed for Tempo
    messages = json.dumps([{"role": "user", "content": f'my key "sk-proj-{word}"'}])
    plant = _as_attribute(semconv.GEN_AI_INPUT_MESSAGES, messages)
    yield Canary(word, "key in a prompt", False, None, None, plant)


def canaries(seed: int) -> list[Canary]:
    """All canaries, at least two hundred; the same for the same seed."""
    supply = iter(words(999, seed))
    made = [*_content(lambda: next(supply)), *_secrets(lambda: next(supply))]
    assert len({canary.word for canary in made}) == len(made)
    return made


def leaks(data: bytes) -> set[str]:
    """Canaries in these bytes, whole or cut."""
    return {found.decode() for found in LEAK.findall(data)}
