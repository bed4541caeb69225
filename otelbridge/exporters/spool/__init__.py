"""The bounded queue on disk for what could not be delivered yet.

`queue.Spool` is the whole of it for an exporter. Below it: `records`, the format of a segment;
`folder`, the directory with its names, rights and locks; `segment`, the one that is appended to;
`claims`, one that is being sent; `cap`, who makes room; `tidy`, directories of owners that are
gone; `survey`, all of it from outside. What a payload is, nobody here knows. Files are not
encrypted.
Locks are those of flock(2): every process of a spool runs on one machine.
"""

from otelbridge.exporters.spool.claims import Claimed
from otelbridge.exporters.spool.folder import FoundOwner, Owner
from otelbridge.exporters.spool.queue import FSYNC_SECONDS, Fsync, Spool
from otelbridge.exporters.spool.records import Record
from otelbridge.exporters.spool.survey import Purged, SpoolStatus, found, purge, read, survey

__all__ = [
    "FSYNC_SECONDS",
    "Claimed",
    "FoundOwner",
    "Fsync",
    "Owner",
    "Purged",
    "Record",
    "Spool",
    "SpoolStatus",
    "found",
    "purge",
    "read",
    "survey",
]
