"""Panels at times when little is called, asked by promtool of series that are written down here.

The filled stack of the other tests is busy, so what a panel says of a rare call, of nothing at all,
or of the second of two Collectors is asked in virtual time: a sample each 15 seconds, as scraped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from grafana.dashboards_src import index, kit
from tests.grafana.asking import put_in

PANELS = {panel.key: panel for declared in index.dashboards() for panel in declared.panels}
CALLS = "traces_spanmetrics_calls_total"
DURATIONS = "otelbridge_gen_ai_operation_duration_seconds_count"
PER_CALL = "otelbridge_gen_ai_tokens_per_call_count"
#: Labels of a span's series.
SHOP = 'service_name="shop", deployment_environment_name="prod"'
CHAT = f'{SHOP}, gen_ai_operation_name="chat", gen_ai_provider_name="openai"'
MODEL = f'{CHAT}, gen_ai_request_model="gpt-4o"'
TOOL = f'{SHOP}, gen_ai_operation_name="execute_tool"'

Samples = list[tuple[str, float]]


@pytest.fixture
def answers(tmp_path: Path):
    """`answers(expr, series, at, samples)`: promtool finds just these samples at that time."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool binary: `apt-get install prometheus` (Debian) provides one")

    def check(expr: str, series: dict[str, str], at: str, samples: Samples) -> None:
        wanted = [{"labels": labels, "value": value} for labels, value in samples]
        case = {
            "interval": "15s",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": wanted}],
        }
        file = tmp_path / "quiet.test.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}), "utf-8")
        told = subprocess.run(
            [promtool, "test", "rules", str(file)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr

    return check


def promql(key: str, number: int = 0) -> str:
    """A query of a panel with all variables on All."""
    query = PANELS[key].queries[number]
    assert isinstance(query, kit.Prom)
    return put_in(query.expr, {}, promql=True)


@pytest.mark.parametrize(
    ("key", "labels", "value"),
    [
        ("llm-requests", "{}", 0.1),  # one in ten minutes
        ("llm-requests-by-operation", '{gen_ai_operation_name="chat"}', 1),
        ("quality-failed-share", "{}", 0),
    ],
)
def test_one_call_in_half_an_hour_is_counted(answers, key, labels, value):
    """Calls are told by a counter that stays: one that comes back with its total has not grown."""
    series = {
        f"{CALLS}{{{MODEL}}}": "5x120 6x40",
        f"{DURATIONS}{{{MODEL}}}": "5x40 _x80 6x40",
    }
    # The counter grows at 30:15; `increase` reckons to the ends of the range, as 40 of 39 steps.
    expr = f"round({promql(key)}, 0.1)" if value == 0.1 else f"round({promql(key)})"
    answers(expr, series, "35m", [(labels, value)])


@pytest.mark.parametrize(
    "key",
    ["llm-error-rate", "quality-failed-share", "agents-tool-error-share", "services-edge-errors"],
)
def test_shares_of_nothing_are_no_number(answers, key):
    """While nothing is called a share has no value, rather than NaN, and the panel says so."""
    edge = "traces_service_graph_request_total"
    series = {
        f"{CALLS}{{{MODEL}}}": "5x60",
        f'{CALLS}{{{TOOL}, status_code="STATUS_CODE_ERROR"}}': "2x60",
        f'{edge}{{client="shop", server="rag"}}': "3x60",
    }
    answers(promql(key), series, "12m", [])


@pytest.mark.parametrize("key", ["llm-error-rate", "quality-failed-share"])
def test_calls_without_a_failure_are_a_share_of_zero(answers, key):
    """That the shares above are empty is not all that they can be."""
    answers(promql(key), {f"{CALLS}{{{MODEL}}}": "0+1x60"}, "12m", [("{}", 0)])


def test_answers_of_a_model_that_comes_back_are_not_without_usage(answers):
    """Series that were idle begin again with their totals: neither side of the share has grown."""
    series = {
        f'{CALLS}{{{MODEL}, status_code="STATUS_CODE_UNSET"}}': "1x119 2x40",
        f'{DURATIONS}{{{MODEL}, error_type=""}}': "1x40 _x79 2x40",
        f'{PER_CALL}{{{MODEL}, gen_ai_token_type="input"}}': "1x40 _x79 2x40",
    }
    answers(promql("quality-missing-usage-share"), series, "32m", [])


def test_answers_without_usage_are_those_of_operations_that_have_some(answers):
    """Half the answers of chat have no input tokens; images never have any and do not count."""
    image = MODEL.replace('"chat"', '"image_generation"')
    series = {
        f'{DURATIONS}{{{MODEL}, error_type=""}}': "0+2x60",
        f'{DURATIONS}{{{MODEL}, error_type="429"}}': "0+5x60",
        f'{DURATIONS}{{{image}, error_type=""}}': "0+7x60",
        f'{PER_CALL}{{{MODEL}, gen_ai_token_type="input"}}': "0+1x60",
    }
    answers(promql("quality-missing-usage-share"), series, "12m", [("{}", 0.5)])


def test_a_user_with_one_call_is_active(answers):
    """A counter that begins with its only call never grows; its user counts all the same."""
    counter = "otelbridge_gen_ai_user_calls_total"
    series = {
        f'{counter}{{{SHOP}, user_id="ann"}}': "0+1x60",
        f'{counter}{{{SHOP}, user_id="bert"}}': "_x40 1x20",
        f'{counter}{{{SHOP}, user_id="gone"}}': "1x2",
    }
    answers(promql("users-active"), series, "14m", [("{}", 2)])


def test_the_rows_of_operations_have_all_their_cells(answers):
    """Each query of the table keeps to the fifty most frequent names, without idle ones."""
    series = {}
    for number in range(60):
        labels = f'{SHOP}, span_name="span {number}"'
        series[f"{CALLS}{{{labels}}}"] = f"0+{number}x60"  # span 0 is idle
        for bound in ("1", "+Inf"):
            series[f'traces_spanmetrics_latency_bucket{{{labels}, le="{bound}"}}'] = "0+1x60"
    for number in range(3):
        expr = promql("services-operations", number)
        answers(f"count({expr})", series, "12m", [("{}", 50)])
        rarest = f'{CALLS}{{span_name=~"span [0-9]"}}'
        answers(f"({expr}) and on (span_name) {rarest}", series, "12m", [])


def test_a_services_series_are_held_against_one_collectors_cap(answers):
    """Of two Collectors the one with more series of the service, not their sum."""
    series = {
        f'{CALLS}{{{SHOP}, instance="{instance}", span_name="{number}"}}': "1x20"
        for instance, count in (("a", 2), ("b", 3))
        for number in range(count)
    }
    answers(promql("health-series-by-service"), series, "5m", [('{service_name="shop"}', 3)])


@pytest.mark.parametrize(
    ("key", "counter", "label", "without"),
    [
        ("health-refused", "otelcol_receiver_refused_spans_total", "", ""),
        ("health-filtered", "otelcol_processor_filter_spans_filtered_total", "filter", ""),
        ("health-series-left-out", "otelcol_deltatocumulative_datapoints_total", "error", "none"),
    ],
)
def test_what_a_counter_begins_with_is_shown(answers, key, counter, label, without):
    """The first refusal makes its counter; the panel has it, as the alert that leads here has."""
    named = f', {label}="x"' if label else ""
    series = {
        'otelcol_process_uptime_seconds_total{instance="a"}': "1000+15x120",
        f'{counter}{{instance="a"{named}}}': "_x80 7x40",
    }
    samples = [(f'{{instance="a"{named}}}', 7.0)]
    if without:
        samples.append((f'{{instance="a", {label}="{without}"}}', 0.0))
    answers(promql(key), series, "25m", samples)


def test_time_to_first_token_is_that_of_model_calls(answers):
    """An agent that streams has a first chunk too; the panel and its alert leave it out."""
    bucket = "otelbridge_gen_ai_time_to_first_chunk_seconds_bucket"
    agent = MODEL.replace('"chat"', '"invoke_agent"')
    series = {f'{bucket}{{{agent}, le="{le}"}}': "0+1x60" for le in ("10.24", "+Inf")}
    answers(promql("llm-ttft"), series, "12m", [])
