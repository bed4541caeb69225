"""The tables of `otelbridge` as OTTL statements, for `render.py`; text in, text out.

Each function gives the lines of a `conditions` or `statements` list, indented as the templates
need them. What a rule means is said where its table is: `policy.py`, `masks.py`, `dialects.py`,
`langfuse_policy.py` of `otelbridge/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from key_trie import trie_pattern

from otelbridge import dialects, langfuse_policy, policy, semconv

_INTEGER_TEXT: Final = "^[+-]?[0-9]{1,18}$"
_NUMBER_TEXT: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def quoted(text: str) -> str:
    """Text as an OTTL string literal; the Collector reads `$$` as one dollar sign."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return '"' + "".join(c if " " <= c <= "~" else f"\\u{ord(c):04x}" for c in text) + '"'


def at(key: str, context: str = "span") -> str:
    """An attribute as an OTTL path."""
    return f"{context}.attributes[{quoted(key)}]"


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


def langfuse_details_groups() -> str:
    """Usage and cost that the Langfuse SDK writes as JSON: dialects._read_langfuse_details."""
    target, members, added = dialects.LANGFUSE_COST
    tables = (
        (semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS, dialects.LANGFUSE_USAGE, "Int"),
        (semconv.LANGFUSE_OBSERVATION_COST_DETAILS, ((target, members, added),), "Double"),
    )
    groups = []
    for source, rows, conversion in tables:
        statements = [f'set(span.cache["json"], ParseJSON({at(source)}))']
        for target, members, added in rows:
            statements += _details_statements(target, members, added, conversion)
        sent, first = at(source), at(rows[0][0])
        kind = at(semconv.LANGFUSE_OBSERVATION_TYPE)
        is_object = f"IsString({sent}) and IsMatch({sent}, {quoted('^[ ]*[{]')})"
        guard = f"{kind} != nil and {first} == nil and {is_object}"
        groups.append(
            f"      - conditions:\n{lines([guard], 10)}\n"
            f"        statements:\n{lines(statements, 10)}"
        )
    return "\n".join(groups)


def _details_statements(
    target: str, members: tuple[str, ...], added: tuple[str, ...], conversion: str
) -> list[str]:
    def found(path: str) -> str:
        return 'span.cache["json"]' + "".join(f"[{quoted(name)}]" for name in path.split("."))

    total = f"span.cache[{quoted(target)}]"
    statements = [
        f"set({total}, {found(path)}) where {total} == nil and IsDouble({found(path)})"
        for path in members
    ]
    alone = f" and not IsDouble({found(members[0])})" if conversion == "Double" else ""
    statements += [
        f"set({total}, {total} + {found(path)}) "
        f"where {total} != nil and IsDouble({found(path)}){alone}"
        for path in added
    ]
    there = f"where {total} != nil and {at(target)} == nil"
    return [*statements, f"set({at(target)}, {conversion}({total})) {there}"]


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
    """Lists, integers and doubles as `dialects.normalise` forces them."""
    reasons = at(semconv.GEN_AI_RESPONSE_FINISH_REASONS)
    json_list = f"IsMatch({reasons}, {quoted(dialects.REASONS_TEXT)})"
    statements = [
        f"set({reasons}, ParseJSON({reasons})) where IsString({reasons}) and {json_list}",
        f'set({reasons}, [{reasons}]) where IsString({reasons}) and {reasons} != "" '
        f"and not IsMatch({reasons}, {quoted('^[[]')})",
    ]
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
#: Go matches a pattern in one pass when it compiles to fewer than 1,000 instructions; these
#: patterns need at most four for five characters (measured with its regexp package).
_ONE_PASS_LENGTH: Final = 1200
#: These are too many for one pass; Go compares this literal first, so that other keys are fast.
_MANY_KEYS: Final = r"llm\."


@cache
def _key_patterns() -> tuple[str, ...]:
    """`policy.CONTENT_KEY_PATTERNS` in as few patterns as Go matches in one pass each."""
    many = [key for key in policy.CONTENT_KEY_PATTERNS if key.startswith(_MANY_KEYS)]
    written: list[str] = [f"^(?:{'|'.join(many)})$"]
    group: list[str] = []
    for pattern in policy.CONTENT_KEY_PATTERNS:
        if pattern in many:
            continue
        if group and len(trie_pattern([*group, pattern])) > _ONE_PASS_LENGTH:
            written.append(trie_pattern(group))
            group = []
        group.append(pattern)
    return (*written, trie_pattern(group))


def strip_statements(context: str) -> str:
    """Removal of every key of `policy.CONTENT_KEY_PATTERNS`."""
    return lines(
        (
            f"delete_matching_keys({context}.attributes, {quoted(pattern)})"
            for pattern in _key_patterns()
        ),
        10,
    )


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


def uncounted_operation() -> str:
    """True for a span whose usage Langfuse does not get."""
    names = "|".join(langfuse_policy.UNCOUNTED_OPERATIONS)
    operation = at(semconv.GEN_AI_OPERATION_NAME)
    return f"IsString({operation}) and IsMatch({operation}, {quoted(f'^({names})$')})"


def _count(key: str) -> str:
    """True for a token count; a nil is not greater than a number."""
    return f"IsInt({at(key)}) and {at(key)} >= 0"


#: Parts of a token count: key, Langfuse's name of the bucket, its place in the cache.
_USAGE_PARTS: Final = (
    (semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, "input_cached_tokens", "read"),
    (semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS, "input_cache_creation", "written"),
    (semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, "output_reasoning_tokens", "reasoning"),
)


def usage_condition() -> str:
    """True for a span with a usage that is not yet spelled out for Langfuse."""
    keys = (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
    keys += tuple(key for key, _, _ in _USAGE_PARTS)
    details = at(semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS)
    return f"{details} == nil and ({any_present(keys)})"


def usage_statements() -> str:
    """Disjoint token counts and their total as JSON: langfuse_policy._usage_buckets."""
    cache = "span.cache[{}]".format
    total = cache('"total"')
    statements = [f"set({total}, 0)"]
    for key, _, part in _USAGE_PARTS:
        statements.append(f"set({cache(quoted(part))}, 0)")
        statements.append(f"set({cache(quoted(part))}, {at(key)}) where {_count(key)}")
    statements.append(
        f"set({cache(quoted('inner'))}, {cache(quoted('read'))} + {cache(quoted('written'))})"
    )
    for name, key, inner in (
        ("input", semconv.GEN_AI_USAGE_INPUT_TOKENS, cache('"inner"')),
        ("output", semconv.GEN_AI_USAGE_OUTPUT_TOKENS, cache('"reasoning"')),
    ):
        bucket = f'span.cache["usage"]["{name}"]'
        statements += [
            f"set({bucket}, 0) where {inner} > 0",
            f"set({bucket}, {at(key)}) where {_count(key)}",
            f"set({bucket}, {bucket} - {inner}) where {bucket} != nil and {bucket} >= {inner}",
            f"set({total}, {total} + {bucket}) where {bucket} != nil",
        ]
    for _, name, part in _USAGE_PARTS:
        found = cache(quoted(part))
        statements.append(f'set(span.cache["usage"]["{name}"], {found}) where {found} > 0')
        statements.append(f"set({total}, {total} + {found})")
    statements += [
        f'set(span.cache["usage"]["total"], {total}) where span.cache["usage"] != nil',
        f'set({at(semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS)}, String(span.cache["usage"])) '
        'where span.cache["usage"] != nil',
    ]
    return lines(statements, 10)


def cost_statements() -> str:
    """The cost as JSON, where it is not yet spelled out for Langfuse."""
    cost, details = at(semconv.GEN_AI_USAGE_COST), at(semconv.LANGFUSE_OBSERVATION_COST_DETAILS)
    text = f"""Concat(["{{\\"total\\":", String({cost}), "}}"], "")"""
    bounds = f"{cost} >= 0.0 and {cost} <= {langfuse_policy.MAX_COST_USD}"
    where = f"{details} == nil and IsDouble({cost}) and {bounds}"
    return lines([f"set({details}, {text}) where {where}"], 10)


def prompt_link_statements() -> str:
    """A prompt of the conventions as a link to one of Langfuse: langfuse_policy._link_prompt."""
    name, version = at(semconv.GEN_AI_PROMPT_NAME), at(semconv.GEN_AI_PROMPT_VERSION)
    link = at(semconv.LANGFUSE_OBSERVATION_PROMPT_NAME)
    linked = at(semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION)
    absent = f"{link} == nil and {at(semconv.LANGFUSE_PROMPT_NAME)} == nil"
    where = f"where IsString({name}) and {absent} and {is_integer(version)}"
    return lines([f"set({linked}, Int({version})) {where}", f"set({link}, {name}) {where}"], 10)


def prompt_version_statements() -> str:
    """A prompt's version as an integer; Langfuse refuses an observation for any other type."""
    statements = []
    for key in (semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION, semconv.LANGFUSE_PROMPT_VERSION):
        value = at(key)
        there = f"where {value} != nil"
        statements.append(
            f"delete_key(span.attributes, {quoted(key)}) {there} and not {is_integer(value)}"
        )
        statements.append(f"set({value}, Int({value})) {there}")
    return lines(statements, 10)


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
