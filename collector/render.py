"""Renders the Collector's configuration from templates and the tables of `otelbridge`.

`templates/<layer>.yaml` with the tables (`policy.py`, `dialects.py`, ...) and the variables
(`variables/*.yaml`) gives `layers/<layer>.yaml`, likewise two overlays; the layers merged
as the Collector merges them (maps key by key, lists replaced) give the single files `config.yaml`
and `config.no-langfuse.yaml`; `docs_tables` renews the tables of `docs/`. `--check` only compares,
with exit code 1 where a file differs. In a template `@NAME@` is a variable, `@name@` a value of
`_table_values`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from otelbridge import langfuse_policy, masks, policy, semconv

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also when loaded by its path
import docs_tables
import ottl_masking
import ottl_rules as ottl

HERE: Final = Path(__file__).resolve().parent
#: In the order in which they are merged.
LAYERS: Final = ("base", "normalise", "masking", "tempo", "langfuse", "metrics")
_DATASOURCE: Final = {"type": "tempo", "uid": "otelbridge-tempo"}  # fixed, as in grafana/
_PLACEHOLDER: Final = re.compile(r"@(?P<name>[A-Za-z_]+)@")
_REFERENCE: Final = re.compile(r"\$\{env:(?P<name>[A-Z0-9_]+)")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable of the configuration: its name, default and meaning."""

    name: str
    default: str
    meaning: str

    @property
    def reference(self) -> str:
        """The text that the Collector replaces by the variable's value or default."""
        return f"${{env:{self.name}:-{self.default}}}"


def _load_variables() -> tuple[Variable, ...]:
    """The rows of `variables/<file>.yaml`: layers first, in their order, then other files."""
    found = sorted(path.stem for path in (HERE / "variables").glob("*.yaml"))
    ordered = sorted(found, key=lambda name: LAYERS.index(name) if name in LAYERS else len(LAYERS))
    rows = [
        row
        for name in ordered
        for row in yaml.safe_load((HERE / "variables" / f"{name}.yaml").read_text("utf-8")) or ()
    ]
    return tuple(Variable(row["name"], row["default"], row["meaning"]) for row in rows)


VARIABLES: Final = _load_variables()


# -- layers ----------------------------------------------------------------------------------------
_SCRUB_RESOURCE: Final = f"""\
      - statements:
          - delete_key(resource.attributes, "{semconv.PROCESS_COMMAND_LINE}")
          - delete_key(resource.attributes, "{semconv.PROCESS_COMMAND_ARGS}")
          - replace_all_patterns(resource.attributes, "value", {ottl_masking.REPAIR})"""


def _panes() -> dict[str, str]:
    """Parts of Grafana's Explore link (13.x, `panes` form) around the ids and times."""
    query = {"refId": "A", "datasource": _DATASOURCE, "queryType": "traceql", "query": "@trace@"}
    pane = {
        "datasource": _DATASOURCE["uid"],
        "queries": [query],
        "range": {"from": "@from@", "to": "@to@"},
        "panelsState": {"trace": {"spanId": "@span@"}},
    }
    text = json.dumps({"tmp": pane}, separators=(",", ":"))
    parts = re.split("@(?:trace|from|to|span)@", text)
    names = ("panes_trace", "panes_from", "panes_to", "panes_span", "panes_end")
    return {name: quote(part, safe="") for name, part in zip(names, parts, strict=True)}


def _bound(context: str) -> str:
    """Statements that make text values of a context as long as Tempo keeps; policy._bounded."""
    limit = "@OTELBRIDGE_COLLECTOR_TEMPO_VALUE_BYTES@"
    marker = policy.oversize_marker(limit)
    replace = f'replace_all_patterns({context}.attributes, "value", '
    framed = (("{", "}", "\\\\x01", "\\\\x02"), ("[", "]", "\\\\x03", "\\\\x04"))
    statements = [
        replace + f'"(?s)^\\\\{opened}(.*)\\\\{closed}$$", "{start[1:]}$${{1}}{end[1:]}")'
        for opened, closed, start, end in framed
    ]
    statements.append(f"truncate_all({context}.attributes, {limit})")
    for opened, closed, start, end in framed:
        statements.append(replace + f'"(?s)^{start}(.*){end}$$", "{opened}$${{1}}{closed}")')
    statements.append(replace + f'"(?s)^[\\\\x01\\\\x03].*$$", "{marker}")')
    statements.append(replace + '"\\\\x{FFFD}+$$", "")')
    if context == "span":
        statements = [f'{text} where span.cache["long"] == true' for text in statements]
    return ottl.lines(statements, 10)


def _table_values() -> dict[str, str]:
    """Placeholders that come from the tables of `otelbridge`."""
    gen_ai = ottl.any_present(policy.GEN_AI_KEYS)
    provider, system = ottl.at(semconv.GEN_AI_PROVIDER_NAME), ottl.at(semconv.GEN_AI_SYSTEM)
    level = ottl.at(semconv.LANGFUSE_OBSERVATION_LEVEL)
    absent = [f'          and span.attributes["{key}"] == nil' for key in policy.GEN_AI_KEYS]
    return {
        "is_gen_ai": gen_ai,
        "unsettled_provider": (
            f'(({provider} == nil and IsString({system})) or {provider} == "") and ({gen_ai})'
        ),
        "provider_statements": ottl.provider_statements(),
        "dialect_groups": ottl.dialect_groups(),
        "operation_statements": ottl.operation_statements(),
        "langfuse_details_groups": ottl.langfuse_details_groups(),
        "type_statements": ottl.type_statements(),
        "scrub_resource": _SCRUB_RESOURCE,
        "scrub_span": ottl_masking.scrub("span", masking=False),
        "scrub_event": ottl_masking.scrub("spanevent", masking=False),
        "mask_span": ottl_masking.scrub("span", masking=True),
        "mask_event": ottl_masking.scrub("spanevent", masking=True),
        "mask_resource": ottl_masking.mask_resource(),
        "mask_log": ottl_masking.mask_everything("replace_all_patterns", 'log.attributes, "value"'),
        "mask_body": ottl_masking.mask_everything("replace_pattern", "log.body"),
        "strip_log": ottl.strip_statements("log"),
        "credential_header": ottl.quoted(masks.CREDENTIAL_HEADER_PATTERN),
        "bound_span": _bound("span"),
        "bound_event": _bound("spanevent"),
        "shadowed_by": ottl.any_present(langfuse_policy.SHADOWED_BY_KEYS),
        "shadowing": ottl.any_present(langfuse_policy.SHADOWING_KEYS),
        "shadowing_statements": ottl.shadowing_statements(),
        "observation_type_statements": ottl.observation_type_statements(),
        "level_statements": ottl.level_statements(level),
        "prompt_link_statements": ottl.prompt_link_statements(),
        "prompt_version_statements": ottl.prompt_version_statements(),
        "uncounted_operation": ottl.uncounted_operation(),
        "usage_key": ottl.quoted(langfuse_policy.USAGE_KEY_PATTERN),
        "usage_condition": ottl.usage_condition(),
        "usage_statements": ottl.usage_statements(),
        "cost_statements": ottl.cost_statements(),
        "strip_span": ottl.strip_statements("span"),
        "strip_event": ottl.strip_statements("spanevent"),
        "content_event": ottl.quoted(policy.CONTENT_EVENT_PATTERN),
        "misleading_key": ottl.quoted(langfuse_policy.MISLEADING_KEY_PATTERN),
        "gen_ai_conditions": ottl.lines([gen_ai], 10),
        "not_gen_ai": "\n".join(absent),
        "branch": semconv.BRANCH,
        "content_removed": semconv.CONTENT_REMOVED,
        "oversize": semconv.OVERSIZE,
        "provider": semconv.GEN_AI_PROVIDER_NAME,
        "system": semconv.GEN_AI_SYSTEM,
        "cache_creation": semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        "cache_write": semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        "evaluation_event": semconv.GEN_AI_EVALUATION_RESULT_EVENT,
        "score": semconv.GEN_AI_EVALUATION_SCORE_VALUE,
        "user": semconv.USER_ID,
        "session": semconv.SESSION_ID,
        "langfuse_user": semconv.LANGFUSE_USER_ID,
        "langfuse_session": semconv.LANGFUSE_SESSION_ID,
        "langfuse_url": semconv.LANGFUSE_URL,
        "grafana_url": semconv.GRAFANA_URL,
        "completion_start": semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME,
        "first_chunk": semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        "keep": semconv.LLM_KEEP,
        "parent": semconv.LLM_PARENT,
        **_panes(),
    }


def render_layer(name: str) -> str:
    """The text of `layers/<name>.yaml` from its template."""
    return _rendered(HERE / "templates" / f"{name}.yaml")


def _rendered(template: Path) -> str:
    text = template.read_text("utf-8")
    tables = _table_values()
    for _ in range(2):  # a value of a table may itself hold a variable
        text = _PLACEHOLDER.sub(lambda found: tables.get(found["name"], found[0]), text)
    used = {found["name"] for found in _PLACEHOLDER.finditer(text)}
    names = [f"#   {variable.name}" for variable in VARIABLES if variable.name in used]
    values = {variable.name: variable.reference for variable in VARIABLES}
    values["names"] = "\n".join(names) or "#   none"
    return _PLACEHOLDER.sub(lambda found: values[found["name"]], text)


def layer_names(*, langfuse: bool) -> tuple[str, ...]:
    """The layers of a single file, in the order in which they are merged."""
    return tuple(name for name in LAYERS if langfuse or name != "langfuse")


# -- single files ----------------------------------------------------------------------------------
def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two configurations as the Collector merges them: maps key by key, lists replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = merge(known, value)
        else:
            merged[key] = value
    return merged


class _Dumper(yaml.SafeDumper):
    """Block style, with list items indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def file_name(*, langfuse: bool) -> str:
    """Name of the configuration file with or without the Langfuse branch."""
    return "config.yaml" if langfuse else "config.no-langfuse.yaml"


_HEADER: Final = """\
# The otelbridge Collector in one file: {title}.
# Generated by `python collector/render.py`: the files of collector/layers/ merged in the order
#   {layers}
# and equal to running with `--config` of each. The layers hold the comments; do not edit this file.
# For a setting of one installation use the variables, or a second file: `--config
# collector/{file} --config mine.yaml` (maps merge key by key, lists are replaced whole).
#
# Run:  otelbridge-collector --config collector/{file}
# Variables, meaning and defaults: docs/collector.md. Those that are read here:
{names}

"""


def render_config(*, langfuse: bool) -> str:
    """The text of `config.yaml`, or of `config.no-langfuse.yaml` without the Langfuse branch."""
    layers = layer_names(langfuse=langfuse)
    merged: dict[str, Any] = {}
    for name in layers:
        merged = merge(merged, yaml.safe_load(render_layer(name)))
    body = yaml.dump(merged, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    read = {found["name"] for found in _REFERENCE.finditer(body)}
    header = _HEADER.format(
        title="all spans to Tempo, the LLM view to Langfuse" if langfuse else "Tempo only",
        layers=", ".join(layers),
        file=file_name(langfuse=langfuse),
        names="\n".join(f"#   {v.name}" for v in VARIABLES if v.name in read),
    )
    return header + body


def rendered_files() -> dict[Path, str]:
    """Every generated file with the text that it should hold."""
    layers = {
        HERE / "layers" / f"{name}.yaml": render_layer(name) for name in layer_names(langfuse=True)
    }
    overlays = {
        HERE / "overlays" / template.name: _rendered(template)
        for template in (HERE / "templates" / "overlays").glob("*.yaml")
    }
    singles = {
        HERE / file_name(langfuse=langfuse): render_config(langfuse=langfuse)
        for langfuse in (True, False)
    }
    variables = [(variable.name, variable.default, variable.meaning) for variable in VARIABLES]
    return {**layers, **overlays, **singles, **docs_tables.pages(variables)}


def main() -> int:
    """Write the files, or with `--check` say which differ."""
    parser = argparse.ArgumentParser(description="Render collector/ and the docs from the tables.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 on a difference")
    check = parser.parse_args().check
    stale = [
        (path, text)
        for path, text in rendered_files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(HERE.parent)}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
