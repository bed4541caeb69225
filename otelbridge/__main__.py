"""`python -m otelbridge`: the same as the `otelbridge` command."""

from __future__ import annotations

import sys

from otelbridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
