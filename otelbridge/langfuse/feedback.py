"""`POST /feedback` for users' judgements: a Flask blueprint and an ASGI application.

The body is a JSON object: `trace_id` or `request_id`, `name`, `value`, `comment`. Answers: 202 with
the score's id, 400 for a body that says nothing usable, 413 for one over 16 KiB, 405 and 415 for
another method or type. No authorization, no CORS, no rate limit: those are the application's, in
front of it. Flask and Starlette are imported only where they are used.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from otelbridge.langfuse.score_body import (
    DATA_TYPES,
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
)
from otelbridge.langfuse.scores import score

PATH: Final = "/feedback"
MAX_BODY_BYTES: Final = 16 * 1024
_MAX_COMMENT_CHARACTERS: Final = 5000
_MAX_ID_CHARACTERS: Final = 200
_MEMBERS: Final = frozenset(("trace_id", "request_id", "name", "value", "comment", "data_type"))
Answer = tuple[int, dict[str, str]]
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Any, Any], Awaitable[None]]


def give(raw: bytes, content_type: str, names: Iterable[str] | None = None) -> Answer:
    """Score what the body of a feedback request says.

    Args:
        raw: At most `MAX_BODY_BYTES`.
        names: Names of scores that are taken; None for any.
    Returns:
        Status and JSON object of the answer.
    """
    if len(raw) > MAX_BODY_BYTES:
        return _refused(413, f"at most {MAX_BODY_BYTES} bytes")
    if "json" not in content_type.lower():
        return _refused(415, "Content-Type must be application/json")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return _refused(400, "the body is no JSON")
    if problem := _problem(body, names):
        return _refused(400, problem)
    options = {key: body[key] for key in _MEMBERS - {"name", "value"} if body.get(key) is not None}
    made = score(body["name"], body["value"], **options)
    if not made:
        return _refused(400, "value or target cannot be scored")
    return 202, {"id": made}


def _problem(body: Any, names: Iterable[str] | None) -> str:
    """What is wrong with a body, empty for nothing."""
    if not isinstance(body, dict):
        return "the body is no JSON object"
    if unknown := sorted(set(map(str, body)) - _MEMBERS):
        return f"unknown members {', '.join(unknown)[:200]}; known: {', '.join(sorted(_MEMBERS))}"
    targets = [key for key in ("trace_id", "request_id") if body.get(key) is not None]
    if len(targets) != 1:
        return "one of trace_id and request_id"
    target, name, value = body[targets[0]], body.get("name"), body.get("value")
    if not isinstance(target, str) or not 0 < len(target.strip()) <= _MAX_ID_CHARACTERS:
        return f"{targets[0]} is text of 1 to {_MAX_ID_CHARACTERS} characters"
    if not isinstance(name, str) or not 0 < len(name.strip()) <= MAX_NAME_CHARACTERS:
        return f"name is text of 1 to {MAX_NAME_CHARACTERS} characters"
    if names is not None and name.strip() not in names:
        return "this name is not taken here"
    if not isinstance(value, int | float | str):
        return "value is a number, a boolean or text"
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        return f"a text value has at most {MAX_TEXT_CHARACTERS} characters"
    comment = body.get("comment")
    if comment is not None and not (
        isinstance(comment, str) and len(comment) <= _MAX_COMMENT_CHARACTERS
    ):
        return f"comment is text of at most {_MAX_COMMENT_CHARACTERS} characters"
    data_type = body.get("data_type")
    if data_type is not None and data_type not in DATA_TYPES:
        return f"data_type is one of {', '.join(DATA_TYPES)}"
    return ""


def _refused(status: int, why: str) -> Answer:
    return status, {"error": HTTPStatus(status).phrase, "message": why}


def _taken(names: Iterable[str] | None) -> frozenset[str] | None:
    """The names as a set; a text alone is one name, not its letters."""
    if isinstance(names, str):
        return frozenset({names})
    return None if names is None else frozenset(names)


def feedback_blueprint(
    path: str = PATH, *, names: Iterable[str] | None = None, name: str = "otelbridge_feedback"
) -> Any:
    """A Flask blueprint with `POST /feedback`: `app.register_blueprint(feedback_blueprint())`.

    Args:
        path: Of the route.
        names: Names of scores that are taken, such as `{"user_rating"}`; None for any.
        name: Of the blueprint.
    """
    import flask

    blueprint = flask.Blueprint(name, __name__)
    taken = _taken(names)

    def feedback() -> Any:
        request = flask.request
        if (request.content_length or 0) > MAX_BODY_BYTES:
            status, answer = _refused(413, f"at most {MAX_BODY_BYTES} bytes")
        else:  # a chunked body has no length: no more than the limit is read of it
            raw = request.stream.read(MAX_BODY_BYTES + 1)
            status, answer = give(raw, request.content_type or "", taken)
        return flask.jsonify(answer), status

    blueprint.add_url_rule(path, "feedback", feedback, methods=["POST"])
    return blueprint


def feedback_app(*, names: Iterable[str] | None = None) -> AsgiApp:
    """The same as an ASGI application, to mount or to route to.

    In FastAPI and Starlette: `app.router.routes.append(Route("/feedback", feedback_app()))`.

    Args:
        names: As `feedback_blueprint`.
    """
    return _FeedbackApp(_taken(names))


class _FeedbackApp:
    """An ASGI application; a class, so that Starlette's `Route` takes it as one."""

    def __init__(self, names: Iterable[str] | None) -> None:
        self._names = names

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _answer(send, *_refused(405, "POST only"), extra=[(b"allow", b"POST")])
            return
        raw = b""
        while len(raw) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {key.lower(): value for key, value in scope.get("headers") or ()}
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        await _answer(send, *give(raw, content_type, self._names))


async def _answer(
    send: Any, status: int, answer: dict[str, str], extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        *extra,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
