"""Masking: processor time for a text, clean and with secrets, and recall and precision.

Texts of 1 kB and 20 kB: English and Korean prompts, messages as JSON, source code; clean, with one
address, and with six secrets. The median of single calls in processor time. The bar is that of a
clean prompt of 1 kB: below 50 us. Recall and precision are those of the 2,000 labelled texts of
`tests/masking/corpus.py`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._results import Row, save
from otelbridge import provider
from otelbridge.masking.rules import load
from tests.masking.corpus import corpus

BAR_US: Final = 50.0
ENGLISH: Final = (
    "You are a helpful assistant for an online shop. Answer the customer's question using only the "
    "facts below, and say so when you do not know. The order was placed on 2026-11-03 and left the "
    "warehouse two days later. Customers may return goods within 30 days; the refund takes 3 to 5 "
    "working days. Do not mention internal systems, keys or tokens. "
)
KOREAN: Final = (
    "당신은 온라인 상점의 친절한 도우미입니다. 아래 사실만 사용하여 고객의 질문에 답하세요. "
    "주문은 11월 3일에 접수되었고 이틀 뒤 출고되었습니다. "
)
ONE: Final = " Write to jane.doe@example.com. "
SIX: Final = (
    " Contact jane.doe@example.com or 010-1234-5678, card 4111 1111 1111 1111, IBAN "
    "DE89 3704 0044 0532 0130 00, key sk-proj-aB3dE5fG7hI9jK1lM3nO5pQ7rS9, password=hunter2x9. "
)


def filled(text: str, size: int, middle: str = "") -> str:
    """About so many bytes of a text, with something in its middle."""
    each = len(text.encode()) / len(text)
    half = text * (size // len(text) + 1)
    half = half[: int((size - len(middle)) / each / 2)]
    return half + middle + half


def messages(text: str) -> str:
    """As `gen_ai.input.messages` has it, a system message and the question."""
    system, user = text[: len(text) // 3], text[len(text) // 3 :].replace(". ", ".\n")
    return json.dumps(
        [
            {"role": role, "parts": [{"type": "text", "content": content}]}
            for role, content in (("system", system), ("user", user))
        ]
    )


def texts(size: int) -> dict[str, str]:
    """What is measured, by name."""
    code = inspect.getsource(provider)
    return {
        "English, clean": filled(ENGLISH, size),
        "Korean, clean": filled(KOREAN, size),
        "JSON messages, clean": messages(filled(ENGLISH, size)),
        "source code, clean": (code * (size // len(code) + 1))[:size],
        "English, one address": filled(ENGLISH, size, ONE),
        "English, six secrets": filled(ENGLISH, size, SIX),
        "JSON messages, six secrets": messages(filled(ENGLISH, size, SIX)),
    }


def measure(text: str, calls: int) -> float:
    """Median processor time of a call in microseconds."""
    masker = load().text_masker()
    times = []
    for _ in range(calls):
        started = time.thread_time_ns()
        masker.mask(text)
        times.append(time.thread_time_ns() - started)
    return statistics.median(times) / 1000


def quality() -> dict[str, float]:
    """Recall over secrets, precision over masked texts."""
    masker = load().text_masker()
    secrets = leaked = hits = alarms = 0
    for labelled in corpus():
        masked = masker.mask(labelled.text)
        secrets += len(labelled.secrets)
        leaked += sum(secret in masked for secret in labelled.secrets)
        changed = masked != labelled.text
        hits += changed and bool(labelled.secrets)
        alarms += changed and not labelled.secrets
    return {"recall": 1 - leaked / secrets, "precision": hits / (hits + alarms)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--results", type=Path, help="folder for the JSON files")
    args = parser.parse_args(arguments)
    figures: dict[str, Any] = {"quality": quality()}
    for size in (1_000, 20_000):
        figures[f"{size}_bytes_us"] = {
            name: measure(text, args.calls * 1_000 // size) for name, text in texts(size).items()
        }
    small = figures["1000_bytes_us"]
    rows = [
        Row(
            "Masking a prompt of 1 kB, clean / with six secrets",
            f"{small['English, clean']:.0f} µs / {small['English, six secrets']:.0f} µs",
            f"clean < {BAR_US:.0f} µs",
        ),
        Row(
            "Masking, recall / precision on 2,000 labelled texts",
            f"{figures['quality']['recall']:.2%} / {figures['quality']['precision']:.2%}",
            "≥ 99 % / ≥ 98 %",
        ),
    ]
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    save("masking", {"calls": args.calls, "bar_us": BAR_US, **figures}, rows, args.results)
    prompts = [us for name, us in small.items() if name.endswith("clean") and "code" not in name]
    good = figures["quality"]["recall"] >= 0.99 and figures["quality"]["precision"] >= 0.98
    return 0 if max(prompts) < BAR_US and good else 1


if __name__ == "__main__":
    sys.exit(main())
