"""What a score is: values and their types, targets, ids."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from otelbridge.langfuse.score_body import (
    BadValueError,
    Score,
    Target,
    checked_name,
    checked_type,
    plain_metadata,
    score_id,
    typed_value,
)
from otelbridge.langfuse.score_record import open_record, read_open_record
from tests.langfuse.api.scores import check

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("value", "asked", "expected"),
    [
        (1, None, (1.0, "NUMERIC")),
        (0.25, None, (0.25, "NUMERIC")),
        (Decimal("4.5"), None, (4.5, "NUMERIC")),
        (True, None, (1.0, "BOOLEAN")),
        (False, None, (0.0, "BOOLEAN")),
        ("good", None, ("good", "CATEGORICAL")),
        (1, "BOOLEAN", (1.0, "BOOLEAN")),
        ("yes", "BOOLEAN", (1.0, "BOOLEAN")),
        ("0.5", "NUMERIC", (0.5, "NUMERIC")),
        ("a" * 600, "TEXT", ("a" * 500, "TEXT")),
        ("better", "CORRECTION", ("better", "CORRECTION")),
    ],
)
def test_values_get_the_type_that_langfuse_wants(
    value: object, asked: str | None, expected: tuple[object, str]
) -> None:
    """Without a type the value decides; a type that was asked for is kept."""
    found = typed_value(value, asked)
    assert found == expected
    assert type(found[0]) is type(expected[0])


@pytest.mark.parametrize(
    ("value", "asked"),
    [(math.nan, None), (math.inf, None), (None, None), (object(), None), ("", None),
     ("  ", "TEXT"), (2, "BOOLEAN"), ("good", "NUMERIC"), (1, "CATEGORICAL"), (10**400, None)],
)  # fmt: skip
def test_values_that_are_no_score_are_refused(value: object, asked: str | None) -> None:
    """They give a reason and no score."""
    with pytest.raises(BadValueError):
        typed_value(value, asked)


@pytest.mark.parametrize("name", ["", "  ", None, 3, "n" * 201])
def test_a_bad_name_is_a_mistake_of_the_program(name: object) -> None:
    """The name stands in the program, so it raises."""
    with pytest.raises(ValueError, match="name"):
        checked_name(name)


def test_a_bad_type_is_a_mistake_of_the_program() -> None:
    """An unknown data type raises and names those that there are."""
    assert checked_type("numeric") == "NUMERIC"
    with pytest.raises(ValueError, match="CATEGORICAL"):
        checked_type("number")


def test_the_id_depends_on_target_name_and_source_only() -> None:
    """A repeat has the same id; another span, name or judge another one."""
    target = Target(TRACE, "b7ad6b7169203331")
    first = score_id(target, "quality")
    assert first == score_id(Target(TRACE, "b7ad6b7169203331"), "quality")
    others = [
        score_id(Target(TRACE), "quality"),
        score_id(target, "rating"),
        score_id(target, "quality", "judge"),
        score_id(Target(session_id=TRACE), "quality"),
        score_id(Target(request_id=TRACE), "quality"),
    ]
    assert len({first, *others}) == 6


TEXTS = st.text(max_size=30)
VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(), TEXTS, st.none(), st.lists(TEXTS, max_size=2)
)
TARGETS = st.sampled_from(
    [Target(TRACE), Target(TRACE, "b7ad6b7169203331"), Target(session_id="s"),
     Target(dataset_run_id="r")]
)  # fmt: skip


@given(
    value=VALUES, asked=st.sampled_from([None, "NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT"]),
    target=TARGETS, comment=TEXTS, metadata=st.dictionaries(TEXTS, VALUES, max_size=3),
)  # fmt: skip
def test_every_score_that_is_made_is_one_that_langfuse_takes(
    value: object, asked: str | None, target: Target, comment: str, metadata: dict[str, Any]
) -> None:
    """Whatever the value: refused here with a reason, or right by the OpenAPI rules."""
    try:
        typed, data_type = typed_value(value, asked)
    except BadValueError:
        return
    made = Score(
        "id-1", "quality", typed, data_type, target, 1_700_000_000_123_456_789, comment,
        plain_metadata(metadata), "test",
    )  # fmt: skip
    try:
        check(made.as_body())
    except HTTPException as error:
        pytest.fail(f"{made.as_body()}: {error.detail}")
    assert read_open_record(open_record(made, {"user.id": "u"})) == (made, {"user.id": "u"})


def test_a_body_has_what_the_api_document_names() -> None:
    """Names, the time with its offset, a boolean as 0 or 1; nothing empty."""
    target = Target(TRACE, "b7ad6b7169203331", request_id="r-1")
    made = Score("i", "ok", 1.0, "BOOLEAN", target, 1_700_000_000_123_000_000, environment="prod")
    assert made.as_body() == {
        "id": "i", "traceId": TRACE, "observationId": "b7ad6b7169203331", "name": "ok",
        "value": 1, "dataType": "BOOLEAN", "timestamp": "2023-11-14T22:13:20.123Z",
        "environment": "prod",
    }  # fmt: skip


def test_a_damaged_record_is_told() -> None:
    """What is no record of ours raises one error type."""
    for payload in (b"", b"{}", b"[]", b'{"score": {"name": 1}, "request": {}}'):
        with pytest.raises((ValueError, TypeError)):
            read_open_record(payload)
