"""The built-in detectors by name, and the search of one text by several of them.

`keys`, `numbers` and `secrets` hold the detectors; `rules` chooses among them and adds the
application's. Text in, findings out: nothing is replaced here (`text` does that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from otelbridge.masking import keys, numbers, secrets
from otelbridge.masking.scan import Scan

#: Offsets, or offsets and a kind finer than the detector's.
Place = tuple[int, int] | tuple[int, int, str]


class Finding(NamedTuple):
    """Where in a text something was found, from `start` up to `end`, and what (`email`).

    `by` is the kind of the detector, on which the rules decide.
    """

    start: int
    end: int
    kind: str
    by: str


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing to find.

    Attributes:
        kind: Name in the rules and in the marker (`[masked:email]`).
        find: The offsets in a scanned text, in any order.
        needs: `runs` of digits or long `words`, without which it finds nothing.
    """

    kind: str
    find: Callable[[Scan], Iterable[Place]]
    needs: str = ""


#: Every built-in detector; where two findings overlap, the earlier one names the whole.
BUILT_IN: Final[tuple[Detector, ...]] = (
    Detector("private-key", keys.private_keys),
    Detector("jwt", keys.jwts),
    Detector("api-key", keys.api_keys, "words"),
    Detector("credential", secrets.credentials),
    Detector("password", secrets.url_passwords),
    Detector("iban", numbers.ibans, "runs"),
    Detector("card", numbers.cards, "runs"),
    Detector("kr-rrn", numbers.korean_numbers, "runs"),
    Detector("us-ssn", numbers.social_security_numbers, "runs"),
    Detector("national-id", numbers.national_ids, "runs or words"),
    Detector("email", secrets.emails),
    Detector("phone", numbers.phones, "runs"),
    Detector("ip", numbers.ip_addresses),
    Detector("secret", secrets.named_secrets),
    Detector("parameter", secrets.query_values),
)
#: Off unless asked for: addresses of machines are what a platform team looks for in spans.
OPTIONAL: Final = frozenset({"ip"})
KINDS: Final = tuple(detector.kind for detector in BUILT_IN)


def search(text: str, detectors: Sequence[Detector]) -> list[Finding]:
    """What the detectors find, in order of place; overlapping findings are joined into one."""
    scan = Scan(text)
    found = [
        (place[0], -place[1], rank, place[2] if len(place) > 2 else detector.kind)
        for rank, detector in enumerate(detectors)
        if not detector.needs
        or ("runs" in detector.needs and scan.runs)
        or ("words" in detector.needs and scan.long_words)
        for place in detector.find(scan)
        if place[1] > place[0]
    ]
    if not found:
        return []
    found.sort()
    joined: list[Finding] = []
    start, negative_end, best, kind = found[0]
    end = -negative_end
    for next_start, negative_end, rank, next_kind in found[1:]:
        if next_start < end:
            end = max(end, -negative_end)
            if rank < best:
                best, kind = rank, next_kind
        else:
            joined.append(Finding(*scan.original(start, end), kind, detectors[best].kind))
            start, end, best, kind = next_start, -negative_end, rank, next_kind
    joined.append(Finding(*scan.original(start, end), kind, detectors[best].kind))
    return joined
