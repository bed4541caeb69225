"""`python -m grafana.alerts_src`: writes every form of the alerts.

To be run from the repository's root. `--check` only compares and ends with 1 where a file differs.
`--runbooks URL` is the address at which docs/runbooks.md is read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from grafana.alerts_src import grafana_form, notifications, prometheus_form, runbooks
from grafana.alerts_src.text import RULES

ROOT: Final = Path(__file__).resolve().parents[2]
#: Annotations take no environment variables: give the address of your docs/runbooks.md.
RUNBOOKS_URL: Final = "https://otelbridge.invalid/docs/runbooks.md"


def generated(runbooks_url: str = RUNBOOKS_URL) -> dict[Path, str]:
    """Every generated file with the text that it should hold."""
    alerting = ROOT / "grafana" / "provisioning" / "alerting"
    return {
        ROOT / "grafana" / "prometheus" / "otelbridge.rules.yaml": prometheus_form.rules_file(
            runbooks_url
        ),
        alerting / "rules.yaml": grafana_form.rules_file(runbooks_url),
        alerting / "contact-points.yaml": notifications.contact_points_file(),
        alerting / "policies.yaml": notifications.policies_file(),
        alerting / "templates.yaml": notifications.templates_file(),
        ROOT / "docs" / "runbooks.md": runbooks.page(),
    }


def main() -> int:
    """Write the files, or with `--check` say which differ; fails when a panel is missing."""
    parser = argparse.ArgumentParser(description="Write the alerts in every form.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 on a difference")
    parser.add_argument("--runbooks", default=RUNBOOKS_URL, help="address of docs/runbooks.md")
    options = parser.parse_args()
    grafana_form.check_panels(RULES)
    files = generated(options.runbooks)
    stale = [
        (path, text)
        for path, text in files.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path, text in stale:
        verb = "differs" if options.check else "written"
        sys.stdout.write(f"{verb}: {path.relative_to(ROOT)}\n")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
