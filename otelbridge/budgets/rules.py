"""What a budget is, and how budgets are read from a file.

Pure. A budget names what it is counted by (`per`), which requests it is for (`only`), and one or
two amounts of USD: `soft_usd` warns and makes `choose_model` take the cheaper model, `limit_usd`
refuses further calls. A file is checked as a whole when tracing starts; a mistake is a ConfigError
that names the entry. docs/budgets.md shows one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from otelbridge import rule_text, semconv
from otelbridge.errors import ConfigError

VARIABLE: Final = "OTELBRIDGE_BUDGETS_FILE"
PERIODS: Final = ("day", "month")
#: Words of `per` and `only` to the span attribute that says whose a request is.
DIMENSIONS: Final[dict[str, str]] = {
    "session": semconv.SESSION_ID,
    "user": semconv.USER_ID,
    "team": semconv.LANGFUSE_TRACE_METADATA_PREFIX + "team",
}
#: Sums that nobody has added to for so long are forgotten: longer than the longest period.
KEPT_SECONDS: Final = 62 * 86_400
_METADATA: Final = "metadata."
#: Values that a key can hold as they are; what separates its parts is not in it.
_plain = re.compile(r"[-\w .:/@+]+", re.ASCII)
_SOFT_SHARE: Final = 0.8
_KEYS: Final = ("name", "per", "only", "limit_usd", "soft_usd", "timezone", "fails")
_ALLOWED_DIMENSIONS: Final = f"{', '.join(DIMENSIONS)}, metadata.<key>, {' or '.join(PERIODS)}"


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount that model calls may cost.

    Attributes:
        name: For messages, spans and the command.
        limit_usd: From here on calls are refused; None: never.
        soft_usd: From here on there is a warning and `choose_model` takes the cheaper model;
            by default 80 % of the limit.
        per: What has a sum of its own: `session`, `user`, `team`, `metadata.<key>`, `day`,
            `month`, or several of them. Empty: one sum for all calls.
        only: Requests that it is for, `{"team": "sales"}`; others are not touched.
        timezone: Where a day begins (IANA name).
        fails: `open`: calls go on when the sum cannot be read; `closed`: they are refused.
    Raises:
        ValueError: a part of it cannot be used; the message says which.
    """

    name: str
    limit_usd: float | None = None
    soft_usd: float | None = None
    per: tuple[str, ...] = ()
    only: Mapping[str, str] = field(default_factory=dict)
    timezone: str = "UTC"
    fails: str = "open"
    #: `day`, `month`, or empty text for a sum without an end.
    period: str = field(default="", init=False, repr=False, compare=False)
    #: The words that say whose a sum is, in a fixed order, those of `only` included.
    dimensions: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError("name: text that is not empty")
        per = (self.per,) if isinstance(self.per, str) else tuple(self.per)
        object.__setattr__(self, "per", tuple(dict.fromkeys(per)))
        for word in self.per:
            known = isinstance(word, str) and (word in PERIODS or attribute_of(word) is not None)
            if not known:
                raise ValueError(f"per: {_ALLOWED_DIMENSIONS}; not {word!r}")
        if len(set(self.per) & set(PERIODS)) > 1:
            raise ValueError("per: day or month, not both")
        for word, wanted in self.only.items():
            if not isinstance(wanted, str) or attribute_of(str(word)) is None:
                raise ValueError(f"only: session, user, team or metadata.<key> = text, not {word}")
        self._check_amounts()
        if self.fails not in ("open", "closed"):
            raise ValueError(f"fails: open or closed, not {self.fails!r}")
        _zone(self.timezone)
        period = next((word for word in self.per if word in PERIODS), "")
        object.__setattr__(self, "period", period)
        words = tuple(sorted({*self.per, *self.only} - set(PERIODS)))
        object.__setattr__(self, "dimensions", words)

    def _check_amounts(self) -> None:
        for key in ("limit_usd", "soft_usd"):
            amount = getattr(self, key)
            if amount is None:
                continue
            is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
            if not is_number or not 0 <= amount < float("inf"):
                raise ValueError(f"{key}: USD, a number of 0 or more, not {amount!r}")
            object.__setattr__(self, key, float(amount))
        if self.limit_usd is None and self.soft_usd is None:
            raise ValueError("limit_usd or soft_usd: at least one of them")
        if self.soft_usd is None and self.limit_usd is not None:
            object.__setattr__(self, "soft_usd", round(self.limit_usd * _SOFT_SHARE, 9))
        if self.limit_usd is not None and (self.soft_usd or 0) > self.limit_usd:
            raise ValueError("soft_usd: not more than limit_usd")

    def key(self, attributes: Mapping[str, Any], moment: datetime) -> str | None:
        """The sum that a call with these attributes counts for; None where it is not concerned.

        Args:
            attributes: Of a span, or as `context.context_attributes` gives them.
            moment: With a time zone.
        """
        parts = [self._period_text(moment)] if self.period else []
        for word in self.dimensions:
            value = attributes.get(attribute_of(word) or "")
            if not isinstance(value, str) or not value or self.only.get(word, value) != value:
                return None
            parts.append(f"{word}={_part(value)}")
        return ",".join(parts) or "all"

    def _period_text(self, moment: datetime) -> str:
        # The zone is a part of it: days of two zones are not the same hours.
        if self.timezone == "UTC":
            day, zone = moment.astimezone(UTC), ""
        else:
            day, zone = moment.astimezone(_zone(self.timezone)), f"@{self.timezone}"
        # isoformat: a third of the time of strftime, for every call.
        text = day.date().isoformat()
        return f"{self.period}={text if self.period == 'day' else text[:7]}{zone}"

    def begins(self, moment: datetime) -> datetime | None:
        """When the period of this moment began; None for a budget without a period."""
        if not self.period:
            return None
        day = moment.astimezone(_zone(self.timezone))
        day = day.replace(hour=0, minute=0, second=0, microsecond=0)
        return day if self.period == "day" else day.replace(day=1)


def _part(value: str) -> str:
    return value if _plain.fullmatch(value) else quote(value, safe=" :/@+")


def parts_of(key: str) -> dict[str, str]:
    """What a key of `Budget.key` was made of, period included: `{"day": …, "user": …}`."""
    pairs = (part.partition("=") for part in key.split(",") if "=" in part)
    return {word: unquote(value) for word, _, value in pairs}


def attribute_of(word: str) -> str | None:
    """The span attribute that a word of `per` stands for; None for a word that is none."""
    if word.startswith(_METADATA) and len(word) > len(_METADATA):
        return semconv.LANGFUSE_TRACE_METADATA_PREFIX + word.removeprefix(_METADATA)
    return DIMENSIONS.get(word)


#: UTC without a time zone database, which small container images lack.
_zones: dict[str, tzinfo] = {"UTC": UTC}


def _zone(name: str) -> tzinfo:
    found = _zones.get(name)
    if found is None:
        try:
            found = _zones[name] = ZoneInfo(name)
        except (KeyError, ValueError, TypeError, OSError):
            raise ValueError(f"timezone: a name such as Asia/Seoul, not {name!r}") from None
    return found


def read_budgets_file(path: str) -> tuple[Budget, ...]:
    """The budgets of a file, in its order.

    Raises:
        ConfigError: it cannot be read, or something in it cannot be used; names the entry.
    """
    data = _data(path)
    if not isinstance(data, dict) or not set(data) <= {"budget"}:
        raise ConfigError(VARIABLE, path, "a list named budget, and nothing beside it")
    entries = data.get("budget", [])
    if not isinstance(entries, list):
        raise ConfigError(VARIABLE, path, "budget: a list ([[budget]] in TOML)")
    found = tuple(_budget(path, number, entry) for number, entry in enumerate(entries, 1))
    names = [budget.name for budget in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(VARIABLE, f"{path}, budget {name!r}", "each name once")
    return found


def _budget(path: str, number: int, entry: object) -> Budget:
    place = f"{path}, budget {number}"
    if not isinstance(entry, dict):
        raise ConfigError(VARIABLE, place, "a mapping")
    if isinstance(entry.get("name"), str):
        place += f" ({entry['name']})"
    unknown = next((str(key) for key in entry if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(VARIABLE, f"{place}, {unknown}", f"one of {', '.join(_KEYS)}")
    for key, kinds in (("per", (str, list)), ("only", (dict,)), ("timezone", (str,))):
        if key in entry and not isinstance(entry[key], kinds):
            raise ConfigError(VARIABLE, f"{place}, {key}", f"not a {type(entry[key]).__name__}")
    try:
        return Budget(**{"name": "", **entry})
    except (ValueError, TypeError) as error:
        raise ConfigError(VARIABLE, place, str(error)) from None


def _data(path: str) -> Any:
    file = Path(path).expanduser()
    form = file.suffix.lower().removeprefix(".").replace("yml", "yaml")
    if form not in ("toml", "json", "yaml"):
        raise ConfigError(VARIABLE, path, "the path of a .toml, .json or .yaml file")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(VARIABLE, path, f"a file that can be read ({why})") from None
    return rule_text.parse(text, form, variable=VARIABLE, shown=path)
