"""Text that was made to hold the export worker: the cost stays in proportion to its length."""

from __future__ import annotations

import time

import pytest

from otelbridge import masks
from otelbridge.masking.rules import load

PIECES = (
    "a-",
    "eyJ",
    "@",
    "a@b.",
    "%40",
    "sk-a",
    "Bearer ",
    "://",
    "://a:",
    "://a:b@",
    "?key",
    "?key=",
    "&key=a",
    "%+.-",
    "1 ",
    "1-",
    "+1 ",
    "(1",
    "010-",
    "password",
    "password=",
    "key=",
    "token is ",
    "비밀번호는 a1",
    "pw",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "DE89",
    "::",
    "1.1.",
    "aa:",
    ":AA",
    "-us",
    "8Q~",
    "M.aaaaaa.",
    "\\u0041",
    "\\n",
    "{",
    "[",
    '{"a":',
    "'",
    "=",
    "--password ",
    "key='",
    "İ",
    "4111 ",
    "4111111111111111 ",
    "A" * 16,
    "SG.",
    "eyJa.eyJ",
    "a" * 15 + " ",
    "sig!=",
    "123.456.789-0",
    "S1234567A ",
    "-u a:",
    "<key>",
    "Cookie:",
    "?key=sk-ant-sig!=1.1.",
    "e+1[[aa:key=",
    "850101-1\\n=DE89",
    "010-1234-5678 ",
)
LENGTH = 30_000


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_text_takes_no_more_than_long_text(piece: str):
    """30 kB of what makes a matcher start anew take a fraction of a second."""
    masker = load("+ip").text_masker()
    text = piece * (LENGTH // len(piece)) + " someone@example.org"
    begin = time.process_time()
    masked = masker.mask(text)
    masks.mask_query(text)
    assert time.process_time() - begin < 6.0  # what grows with the square takes minutes
    assert "someone@example.org" not in masked


def test_query_strings_of_any_kind_are_masked_as_before():
    """`masks.mask_query` finds what it always found, in one pass."""
    assert masks.mask_query("a?x=1&api_key=abc&code=7&mycode=8") == (
        "a?x=1&api_key=[masked]&code=[masked]&mycode=8"
    )
    assert masks.mask_query("token=a;b=c") == "token=[masked];b=c"
    assert masks.mask_query("/x?next=/y?token=a&b=1") == "/x?next=/y?token=[masked]&b=1"
    assert masks.mask_query("?key=&b=1") == "?key=&b=1"
    text = "?" + "key" * 100_000
    assert masks.mask_query(text) == text


def test_a_clean_prompt_costs_microseconds():
    """benchmarks/masking.py measures against the bar of 50 us; here it is ten times that."""
    masker = load().text_masker()
    text = ("The order was placed on 2026-11-03; answer it in 30 words, please. " * 15)[:1000]
    times = []
    for _ in range(200):
        begin = time.thread_time()
        assert masker.mask(text) is text
        times.append(time.thread_time() - begin)
    assert sorted(times)[100] < 500e-6
