"""Masking: secrets and personal data are taken out of spans before they leave the process.

`detectors` finds, `rules` says what is looked for and what becomes of it, `text` replaces (inside
JSON too), `spans` applies it to a whole span in the export worker, before encoding and spool.
`otelbridge.masks` is the second line, for what a regular expression decides in the Collector.
"""

from otelbridge.masking.presidio import presidio_finder
from otelbridge.masking.rules import Masking, Pattern

__all__ = ["Masking", "Pattern", "presidio_finder"]
