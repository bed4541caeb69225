"""What is masked and how: the built-in set, a rules file, or `Masking(...)` in code.

`load` reads OTELBRIDGE_MASKING and OTELBRIDGE_MASKING_RULES (a path to YAML, JSON or TOML, or the
rules themselves) into a `Masking`; a mistake is a ConfigError that names the place. A `Masking`
makes the `TextMasker` of `text` and answers what becomes of each key for `spans`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from otelbridge import rule_text
from otelbridge.errors import ConfigError
from otelbridge.masking.detectors import BUILT_IN, KINDS, OPTIONAL, Detector, Place
from otelbridge.masking.scan import Offsets, Scan
from otelbridge.masking.text import ACTIONS, Action, TextMasker

SWITCH: Final = "OTELBRIDGE_MASKING"
RULES: Final = "OTELBRIDGE_MASKING_RULES"
SALT: Final = "OTELBRIDGE_MASKING_SALT"
_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_FINDING_ACTIONS: Final = ("mask", "hash", "last4", "off")
_MEMBERS: Final = ("detectors", "patterns", "allow", "keys", "resource")
#: The shortest salt that keeps a list of mail addresses from being tried out by hand.
_SALT_CHARACTERS: Final = 8

FindInText = Callable[[str], Iterable[Place]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """An own kind of secret.

    Attributes:
        name: Kind in the marker, `employee-id` gives `[masked:employee-id]`.
        pattern: Of Python's `re`; a group named `secret` limits what is replaced. It is run on
            every text, so it must not backtrack without bound (`(a+)+` does).
        action: `mask`, `hash` or `last4`.
    """

    name: str
    pattern: str | re.Pattern[str]
    action: str = "mask"


@dataclass(frozen=True)
class Masking:
    """What is looked for, and what becomes of it.

    Attributes:
        detectors: Kind to `mask`, `hash`, `last4` or `off`; kinds not named keep their default
            (`mask`, `ip` off). Or a sequence of kinds: these alone.
        patterns: Own kinds by pattern.
        finders: Own kinds by function: text in, pairs of offsets out (or offsets with a finer
            kind). One that raises costs the whole value (`[masked:failed]`). `detectors` may name
            an action for these kinds too.
        allow: Texts that stay when found: exact, or with `*` and `?` (`*@example.com`).
        keys: Attribute key (`*` and `?` allowed) to `drop`, `mask`, `hash`, `last4`, `keep`, or to
            a function from text to text. The first that fits counts. `keep` switches masking off
            for the key.
        salt: For `hash`; at least eight characters, the same in all services that must agree.
        resource: Also mask resource attributes, without the process's command line.
        enabled: False switches masking off.
    Raises:
        ConfigError: an unknown kind or action, a pattern that cannot be used, `hash` without salt.
    """

    detectors: Mapping[str, str] | Sequence[str] = field(default_factory=dict)
    patterns: Sequence[Pattern] = ()
    finders: Mapping[str, FindInText] = field(default_factory=dict)
    allow: Sequence[str] = ()
    keys: Mapping[str, Action] = field(default_factory=dict)
    salt: str = field(default="", repr=False)
    resource: bool = True
    enabled: bool = True

    def __post_init__(self) -> None:
        self.text_masker()  # everything that can be wrong is found here, not on the first span
        for key, action in self.keys.items():
            if not callable(action) and action not in ACTIONS:
                allowed = ", ".join(ACTIONS)
                raise ConfigError(f"masking.keys[{key!r}]", str(action), f"{allowed} or a function")
        uses = [*self.keys.values(), *self._actions().values()]
        if "hash" in uses and len(self.salt) < _SALT_CHARACTERS:
            raise ConfigError(
                SALT,
                "",
                f"text of at least {_SALT_CHARACTERS} characters when a rule says hash",
                "Without a salt, whoever has a list of mail addresses can try them out.",
            )

    def text_masker(self) -> TextMasker:
        """The masker of texts by these rules."""
        actions = self._actions()
        own = [
            *(Detector(p.name, _pattern_finder(p)) for p in self.patterns),
            *(Detector(_checked_kind(kind), _text_finder(f)) for kind, f in self.finders.items()),
        ]
        chosen = [*own, *(d for d in BUILT_IN if actions.get(d.kind) != "off")]
        return TextMasker(chosen, actions=actions, is_allowed=_allowed(self.allow), salt=self.salt)

    def key_action(self, key: str) -> Action | None:
        """The first action in `keys` whose name fits, None for none."""
        for name, action in self.keys.items():
            if name == key or fnmatch.fnmatchcase(key, name):
                return action
        return None

    def _actions(self) -> dict[str, str]:
        own = {p.name: p.action for p in self.patterns}
        given = self.detectors
        if isinstance(given, str):
            raise ConfigError("masking.detectors", given, "a list or a mapping of kinds")
        actions = {kind: "off" if kind in OPTIONAL else "mask" for kind in KINDS}
        if not isinstance(given, Mapping):
            actions = dict.fromkeys(KINDS, "off")
            given = dict.fromkeys(given, "mask")
        for kind, action in {**own, **given}.items():
            if kind not in KINDS and kind not in self.finders and kind not in own:
                raise ConfigError("masking.detectors", str(kind), ", ".join(KINDS))
            # YAML 1.1 reads the bare word off as false
            word = {False: "off", True: "mask"}.get(action, action)  # type: ignore[call-overload]
            if word not in _FINDING_ACTIONS:
                raise ConfigError(
                    f"masking.detectors[{kind!r}]", str(action), ", ".join(_FINDING_ACTIONS)
                )
            actions[kind] = word
        return actions


def _checked_kind(kind: str) -> str:
    if not _KIND.fullmatch(kind) or kind in KINDS:
        raise ConfigError(
            "masking kind", kind, "lower-case letters, digits and hyphens, not a built-in kind"
        )
    return kind


def _pattern_finder(rule: Pattern) -> Callable[[Scan], Iterable[Offsets]]:
    _checked_kind(rule.name)
    try:
        pattern = re.compile(rule.pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"masking.patterns[{rule.name!r}]", str(rule.pattern), f"a pattern of re ({error})"
        ) from None
    if pattern.search("") is not None:
        raise ConfigError(
            f"masking.patterns[{rule.name!r}]", pattern.pattern, "a pattern that needs some text"
        )
    group = "secret" if "secret" in pattern.groupindex else 0

    def find(scan: Scan) -> list[Offsets]:
        return [m.span(group) for m in pattern.finditer(scan.text) if m.start(group) >= 0]

    return find


def _text_finder(function: FindInText) -> Callable[[Scan], Iterable[Place]]:
    def find(scan: Scan) -> list[Place]:
        size = len(scan.text)
        found = list(function(scan.text))
        for place in found:
            if not 0 <= place[0] <= place[1] <= size:  # would leave the secret there unnoticed
                raise ValueError(f"offsets {place[0]}..{place[1]} in a text of {size}")
        return found

    return find


def _allowed(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    if isinstance(patterns, str):
        raise ConfigError("masking.allow", patterns, "a list of texts")
    if not patterns:
        return None
    either = re.compile("|".join(f"(?:{fnmatch.translate(str(p))})" for p in patterns))
    return lambda text: either.match(text) is not None


# -- from the environment --------------------------------------------------------------------------
def load(switch: str = "true", rules: str = "", salt: str = "") -> Masking:
    """The masking that the environment asks for.

    Args:
        switch: OTELBRIDGE_MASKING: `true`, `false`, kinds separated by commas (these alone), or
            changes to the default (`+ip,!phone`).
        rules: OTELBRIDGE_MASKING_RULES: path of a .yaml, .json or .toml file, or JSON or YAML text.
        salt: OTELBRIDGE_MASKING_SALT.
    Raises:
        ConfigError: text that cannot be used, a file that cannot be read.
    """
    enabled, chosen = _switch(switch)
    data = _read(rules.strip()) if rules.strip() else {}
    for member in data:
        if member not in _MEMBERS:
            raise ConfigError(RULES, str(member), ", ".join(_MEMBERS))
    resource = data.get("resource", True)
    if not isinstance(resource, bool):
        raise ConfigError(RULES, f"resource: {resource}", "true or false, without quotes")
    detectors = data.get("detectors", {})
    if detectors is None:
        detectors = {}
    if not isinstance(detectors, Mapping | list):
        raise ConfigError(RULES, f"detectors: {detectors}", "a list or a mapping of kinds")
    if isinstance(chosen, list):
        detectors = chosen
    elif isinstance(detectors, Mapping):
        detectors = {**detectors, **chosen}
    elif chosen:
        kinds = [kind for kind in detectors if chosen.get(kind) != "off"]
        detectors = [*kinds, *(kind for kind, action in chosen.items() if action != "off")]
    return Masking(
        detectors=detectors,
        patterns=_patterns(data.get("patterns")),
        allow=_texts(data.get("allow"), "allow"),
        keys=_mapping(data.get("keys"), "keys"),
        salt=salt,
        resource=resource,
        enabled=enabled,
    )


def _switch(switch: str) -> tuple[bool, list[str] | dict[str, str]]:
    words = [word.strip() for word in switch.split(",") if word.strip()]
    if len(words) <= 1 and (words or ["true"])[0].lower() in ("true", "1", "yes", "on"):
        return True, {}
    if len(words) == 1 and words[0].lower() in ("false", "0", "no", "off"):
        return False, {}
    for word in words:
        if word.lstrip("+!") not in KINDS:
            raise ConfigError(
                SWITCH, switch, f"true, false, or kinds separated by commas: {', '.join(KINDS)}"
            )
    if all(word[0] in "+!" for word in words):
        return True, {word[1:]: "off" if word[0] == "!" else "mask" for word in words}
    if any(word[0] in "+!" for word in words):
        raise ConfigError(SWITCH, switch, "either kinds alone, or changes with + and ! alone")
    return True, words


def _read(rules: str) -> dict[str, Any]:
    inline = rules[0] in "{[" or "\n" in rules or re.match(r"[a-z]+:\s", rules) is not None
    ending, text = ".yaml", rules
    if not inline:
        path = Path(rules).expanduser()
        ending = path.suffix.lower()
        if ending not in (".yaml", ".yml", ".json", ".toml"):
            raise ConfigError(RULES, rules, "a .yaml, .json or .toml file, or the rules as text")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(RULES, rules, f"a file that can be read ({why})") from None
    form = "json" if ending == ".json" or text.lstrip()[:1] == "{" else ending[1:]
    data = rule_text.parse(text, form, variable=RULES, shown=rules[:80])
    if not isinstance(data, dict):
        raise ConfigError(RULES, rules[:80], f"a mapping with {', '.join(_MEMBERS)}")
    return data


def _patterns(items: Any) -> list[Pattern]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise ConfigError(RULES, "patterns", "a list of mappings with name and pattern")
    patterns = []
    for item in items:
        fits = isinstance(item, dict) and {"name", "pattern"} <= item.keys()
        if not fits or not item.keys() <= {"name", "pattern", "action"}:
            raise ConfigError(RULES, str(item)[:80], "a mapping with name, pattern and action")
        patterns.append(Pattern(str(item["name"]), item["pattern"], item.get("action", "mask")))
    return patterns


def _texts(items: Any, member: str) -> list[str]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise ConfigError(RULES, f"{member}: {items}"[:80], "a list of texts")
    return [str(item) for item in items]


def _mapping(items: Any, member: str) -> dict[str, Action]:
    if items is None:
        return {}
    if not isinstance(items, dict):
        raise ConfigError(RULES, f"{member}: {items}"[:80], "a mapping of keys to actions")
    return {str(key): str(action) for key, action in items.items()}
