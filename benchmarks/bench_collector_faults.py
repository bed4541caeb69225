"""Outages, crashes and a full queue with the real Collector, at length: what is lost, what waits.

Bar B3 for the Collector: 0 spans lost with Langfuse away (refused, black hole, 429 with
Retry-After, 503, 500 behind the proxy), Tempo at most 5 s behind; SIGKILL at random moments under
load: lost at most the last second, median 0. Then what a full queue costs under each policy.
`tests/collector/test_faults.py` runs the same in short. Prints JSON; exit 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks import _collector_faults as faults
from otelbridge.collector import config_file, find_collector, project_root

LAG_BAR_SECONDS = 5.0
DROP = "drop (a last batch stage, timeout 0)"


def overflow_policies() -> dict[str, dict[str, Any]]:
    """What may happen to spans for a Langfuse queue that is full, as changes of the configuration.

    A last batch stage takes everything and drops what the queue refuses.
    """
    root = project_root()
    assert root is not None
    config = yaml.safe_load(config_file(root, langfuse=True).read_text(encoding="utf-8"))
    stages = config["service"]["pipelines"]["traces/langfuse"]["processors"]
    pipeline = {"processors": [*stages, "batch/last"]}
    return {
        "refuse (block_on_overflow: false)": {},
        "wait (block_on_overflow: true)": {
            "exporters": {"otlp_http/langfuse": {"sending_queue": {"block_on_overflow": True}}}
        },
        DROP: {
            "processors": {"batch/last": {"timeout": "0s"}},
            "service": {"pipelines": {"traces/langfuse": pipeline}},
        },
    }


def full_queue(binary: Path, over: dict[str, Any], seconds: float) -> dict[str, float]:
    """A Langfuse queue of 500 spans during an outage under load, then recovery."""
    small = {
        "OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS": "500",
        "OTELBRIDGE_COLLECTOR_LANGFUSE_BATCH_SPANS": "100",
    }
    with faults.Rig(binary, over=over, environment=small, spans_per_second=500) as rig:
        rig.langfuse.answer = 503
        rig.start_load()
        rig.pass_time(seconds)
        acknowledged_in_outage = len(rig.acknowledged)
        rig.langfuse.answer = 200
        count = rig.langfuse.arrivals.total
        rig.wait(lambda: rig.langfuse.arrivals.total > count, "a span after the outage")
        rig.stop_load()
        outcome = rig.settled(15)
        return {
            **asdict(outcome),
            "acknowledged_in_outage": acknowledged_in_outage,
            "enqueue_failed_spans": rig.metric(
                "otelcol_exporter_enqueue_failed_spans", "otlp_http/langfuse"
            ),
        }


def crash_after_batch(binary: Path, over: dict[str, Any], kills: int) -> list[int]:
    """Spans lost on the Langfuse side, kill by kill, under a policy."""
    chooser = random.Random(9)
    lost = []
    for seed in range(kills):
        moment = [chooser.uniform(0.2, 2.0)]
        outcome = faults.crashes(binary, moment, spans_per_second=500, seed=seed, over=over)
        lost.append(outcome.langfuse_lost + outcome.tempo_lost)
    return lost


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outage-seconds", type=float, default=60.0)
    parser.add_argument("--spans-per-second", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--full-seconds", type=float, default=15.0)
    parser.add_argument(
        "--timeout-seconds", type=float, default=None, help="of the exporter to Langfuse"
    )
    parser.add_argument("--retry-max-seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    binary = find_collector(binary=os.environ.get("OTELBRIDGE_COLLECTOR_BINARY"))
    if binary is None:
        raise SystemExit("bench_collector_faults: no Collector binary; run `make collector` first")
    kinds = [kind for kind in faults.OUTAGES if faults.NGINX or "proxy" not in kind]
    with ThreadPoolExecutor(len(kinds)) as pool:
        running = {
            kind: pool.submit(
                faults.outage,
                binary,
                kind,
                seconds=arguments.outage_seconds,
                spans_per_second=arguments.spans_per_second,
                timeout_seconds=arguments.timeout_seconds,
                retry_max_seconds=arguments.retry_max_seconds,
            )
            for kind in kinds
        }
        outages = {kind: asdict(future.result()) for kind, future in running.items()}
    changes = overflow_policies()
    with ThreadPoolExecutor(len(changes)) as pool:
        full = {
            name: pool.submit(full_queue, binary, over, arguments.full_seconds)
            for name, over in changes.items()
        }
        policies = {name: future.result() for name, future in full.items()}
    kills = crash_after_batch(binary, {}, arguments.kills)
    dropping = crash_after_batch(binary, changes[DROP], 6)
    result = {
        "outage_seconds": arguments.outage_seconds,
        "spans_per_second": arguments.spans_per_second,
        "outages": outages,
        "full_queue": policies,
        "kills": {"lost": kills, "median": statistics.median(kills), "worst": max(kills)},
        "kills_with_a_last_batch_stage": {"lost": dropping},
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    good = all(
        item["tempo_lost"] == item["langfuse_lost"] == 0
        and item["tempo_worst_lag_seconds"] < LAG_BAR_SECONDS
        for item in outages.values()
    )
    good = good and statistics.median(kills) == 0 and max(kills) <= arguments.spans_per_second
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
