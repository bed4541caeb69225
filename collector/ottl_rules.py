"""The tables of `otelbridge` as OTTL statements, for `render.py`; text in, text out.

Each function gives the lines of a `conditions` or `statements` list, indented as the templates
need them. What a rule means is said where its table is: `policy.py`, `masks.py`, `dialects.py`,
`langfuse_policy.py` of `otelbridge/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from key_trie import trie_pattern

from otelbridge import dialects, langfuse_policy, masks, policy, semconv

_INTEGER_TEXT: Final = "^[+-]?[0-9]{1,18}$"
_NUMBER_TEXT: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def quoted(text: str) -> str:
    """Text as an OTTL string literal; the Collector reads `$$` as one dollar sign."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def at(key: str) -> str:
    """A span attribute as an OTTL path."""
    return f"span.attributes[{quoted(key)}]"


def lines(statements: Iterable[str], indent: int) -> str:
    """A YAML list of OTTL expressions; single-quoted, so that any text is safe."""
    quote = "'"
    return "\n".join(
        " " * indent + "- '" + statement.replace(quote, quote * 2) + quote
        for statement in statements
    )


def any_present(keys: Iterable[str]) -> str:
    """True when one of the attributes is there."""
    return " or ".join(f"{at(key)} != nil" for key in keys)


# -- dialects --------------------------------------------------------------------------------------
def is_integer(value: str) -> str:
    """True for what `dialects.to_integer` takes."""
    text = f"(IsString({value}) and IsMatch({value}, {quoted(_INTEGER_TEXT)}))"
    return f"(IsInt({value}) or IsDouble({value}) or {text})"


def _is_number(value: str) -> str:
    text = f"(IsString({value}) and IsMatch({value}, {quoted(_NUMBER_TEXT)}))"
    return f"(IsInt({value}) or IsDouble({value}) or {text})"


def rule_statements(rule: dialects.Rule) -> list[str]:
    """One row of a dialect."""
    target, source = at(rule.target), at(rule.source)
    where = f"where {target} == nil"
    if rule.only is not None:
        where += f" and {at(rule.only[0])} == {quoted(rule.only[1])}"
    if rule.values:
        names: dict[str, list[str]] = {}
        for old, new in rule.values:
            names.setdefault(new, []).append(f"{source} == {quoted(old)}")
        return [
            f"set({target}, {quoted(new)}) {where} and ({' or '.join(old)})"
            for new, old in names.items()
        ]
    value, guard = {
        "same": (source, f' and {source} != ""'),
        "int": (f"Int({source})", f" and {is_integer(source)}"),
        "double": (f"Double({source})", f" and {_is_number(source)}"),
        "seconds": (f"Double({source}) / 1000.0", f" and {_is_number(source)}"),
        "list": (f"[{source}]", f' and {source} != nil and {source} != ""'),
    }[rule.conversion]
    return [f"set({target}, {value}) {where}{guard}"]


def dialect_groups() -> str:
    """A guarded group of statements for each dialect: other spans only pay for the guard."""
    groups = []
    for dialect in dialects.DIALECTS:
        statements = [text for rule in dialect.rules for text in rule_statements(rule)]
        groups.append(
            f"      # {dialect.name}: {dialect.emitters}\n"
            f"      - conditions:\n{lines([any_present(dialect.when)], 10)}\n"
            f"        statements:\n{lines(statements, 10)}"
        )
    return "\n".join(groups)


def provider_statements() -> str:
    """`gen_ai.system` in any spelling to `gen_ai.provider.name`."""
    provider, system = at(semconv.GEN_AI_PROVIDER_NAME), at(semconv.GEN_AI_SYSTEM)
    cached = 'span.cache["system"]'
    statements = [
        f'delete_key(span.attributes, {quoted(key)}) where {at(key)} == ""'
        for key in (semconv.GEN_AI_PROVIDER_NAME, semconv.GEN_AI_SYSTEM)
    ]
    statements.append(f"set({cached}, ToLowerCase({system})) where {system} != nil")
    statements += [
        f"set({provider}, {quoted(name)}) where {provider} == nil and {cached} != nil "
        f"and IsMatch({cached}, {quoted(pattern)})"
        for pattern, name in dialects.PROVIDERS
    ]
    statements.append(f"set({provider}, {cached}) where {provider} == nil")
    return lines(statements, 10)


def operation_statements() -> str:
    """Operations that some emitters spell in their own way."""
    operation = at(semconv.GEN_AI_OPERATION_NAME)
    return lines(
        (
            f"set({operation}, {quoted(new)}) where {operation} == {quoted(old)}"
            for old, new in dialects.OPERATIONS
        ),
        10,
    )


def type_statements() -> str:
    """Integers and doubles as `dialects.normalise` forces them."""
    statements = []
    for key in (*dialects.INTEGER_KEYS, semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS):
        value = at(key)
        text = f"(IsString({value}) and IsMatch({value}, {quoted(_INTEGER_TEXT)}))"
        statements.append(
            f"set({value}, Int({value})) where {value} != nil and not IsInt({value}) "
            f"and (IsDouble({value}) or {text})"
        )
    for key in dialects.DOUBLE_KEYS:
        value = at(key)
        text = f"(IsString({value}) and IsMatch({value}, {quoted(_NUMBER_TEXT)}))"
        statements.append(
            f"set({value}, Double({value})) where {value} != nil and not IsDouble({value}) "
            f"and (IsInt({value}) or {text})"
        )
    return lines(statements, 10)


# -- content ---------------------------------------------------------------------------------------
#: Each group is small enough for Go's one-pass matcher (under 1,000 instructions).
_KEY_GROUPS: Final = ((r"gen_ai\.", r"langfuse\."), (r"llm\.(openai",), ("",))


def strip_statements(context: str) -> str:
    """Removal of every key of `policy.CONTENT_KEY_PATTERNS`."""
    left = list(policy.CONTENT_KEY_PATTERNS)
    statements = []
    for prefixes in _KEY_GROUPS:
        group = [pattern for pattern in left if pattern.startswith(prefixes)]
        left = [pattern for pattern in left if pattern not in group]
        statements.append(
            f"delete_matching_keys({context}.attributes, {quoted(trie_pattern(group))})"
        )
    return lines(statements, 10)


# -- masking ---------------------------------------------------------------------------------------
def _triggered(parts: Iterable[str], context: str) -> str:
    def found(part: str) -> str:
        return f'Index({context}.cache["text"], {quoted(part)}) >= 0'

    parts = list(parts)
    rare = [found(part) for part in parts if "_" not in part]
    with_bar = [found(part) for part in parts if "_" in part]  # a single byte is found at once
    if with_bar:
        rare.append(f"({found('_')} and ({' or '.join(with_bar)}))")
    return " or ".join(rare)


def mask_statements(context: str) -> str:
    """The detectors on the attribute values of a context; identifiers are put back as they were.

    They run only when the values together hold a piece of text without which none can match: a
    search for that costs a hundredth of a regular expression.
    """
    every = list(dict.fromkeys(part for parts in masks.MASK_TRIGGERS for part in parts))
    hit = f'{context}.cache["hit"] == true'
    kept = masks.UNMASKED_KEYS if context == "span" else ()
    saved = [(f"{context}.cache[{quoted(key)}]", at(key)) for key in kept]
    statements = [f'set({context}.cache["hit"], true) where {_triggered(every, context)}']
    statements += [f"set({cached}, {value}) where {hit}" for cached, value in saved]
    rows = zip(masks.MASK_PATTERNS, masks.MASK_TRIGGERS, strict=True)
    statements += [
        f'replace_all_patterns({context}.attributes, "value", {quoted(pattern)}, '
        f"{quoted(replacement.replace('$1', '${1}'))}) "
        f"where {hit} and ({_triggered(parts, context)})"
        for (pattern, replacement), parts in rows
    ]
    statements += [f"set({value}, {cached}) where {hit}" for cached, value in saved]
    return lines(statements, 10)


# -- Langfuse --------------------------------------------------------------------------------------
def observation_type_statements() -> str:
    """Observation types for the operations that Langfuse does not map by itself."""
    kind, operation = at(semconv.LANGFUSE_OBSERVATION_TYPE), at(semconv.GEN_AI_OPERATION_NAME)
    names: dict[str, list[str]] = {}
    for name, observation in langfuse_policy.OBSERVATION_TYPES:
        names.setdefault(observation, []).append(f"{operation} == {quoted(name)}")
    return lines(
        (
            f"set({kind}, {quoted(observation)}) where {kind} == nil and ({' or '.join(found)})"
            for observation, found in names.items()
        ),
        10,
    )


def shadowing_statements() -> str:
    """Attributes that would hide the real content of a span become metadata of it."""
    statements = []
    for key in langfuse_policy.SHADOWING_KEYS:
        metadata = at(semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX + key)
        statements.append(f"set({metadata}, {at(key)}) where {metadata} == nil")
        statements.append(f"delete_key(span.attributes, {quoted(key)})")
    return lines(statements, 10)


def level_statements(level: str) -> str:
    """The level in a spelling that every version of Langfuse accepts; others are removed."""
    cached = 'span.cache["level"]'
    statements = [
        f"set({cached}, ToUpperCase(String({level}))) where {level} != nil",
        f"delete_key(span.attributes, {quoted(semconv.LANGFUSE_OBSERVATION_LEVEL)}) "
        f"where {cached} != nil",
    ]
    names: dict[str, list[str]] = {}
    for old, new in langfuse_policy.LEVELS:
        names.setdefault(new, []).append(f"{cached} == {quoted(old)}")
    statements += [
        f"set({level}, {quoted(new)}) where {cached} != nil and ({' or '.join(old)})"
        for new, old in names.items()
    ]
    return lines(statements, 10)
