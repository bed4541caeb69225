"""Explanations of the codes about the spool. Data only; `spool_checks` finds them."""

from __future__ import annotations

from typing import Final

from otelbridge.doctor.findings import Entry

ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("spool-good", "ok", "Undelivered spans can be written down",
          "What an endpoint does not take waits on disk and is sent later, also by the next "
          "process of the service.",
          "The directory, or the one it would be made in, is writable and no memory file system."),
    Entry("spool-off", "note", "No spool",
          "Undelivered spans wait in memory, 32 MiB of them; what is left at the end of the "
          "program is lost.",
          "OTELBRIDGE_SPOOL_MAX_BYTES is 0."),
    Entry("spool-unwritable", "warning", "The spool cannot be used",
          "Services of this user keep undelivered spans in memory only, and lose them when they "
          "end.",
          "The directory, or the nearest one that exists above it, is no directory, belongs to "
          "another user or may not be written.",
          "Give the user of the service the directory of OTELBRIDGE_SPOOL_DIR."),
    Entry("spool-ephemeral", "note", "The spool goes with the machine or the container",
          "It outlives the process, not a restart of the machine (memory) or a new container "
          "(its own layer): what waits there is lost then.",
          "The file system of the directory, from /proc/self/mountinfo, and the marks of "
          "container engines and Kubernetes.",
          "Mount a volume, and set OTELBRIDGE_SPOOL_DIR to a directory in it."),
    Entry("spool-waiting", "warning", "Spans have waited in the spool for long",
          "The endpoint takes nothing, or no process of that service is running: a process that "
          "is alive sends what waits as soon as the endpoint answers.",
          "The oldest undelivered record in a spool of this user is older than 15 minutes.",
          "See to the endpoint, start the service, or send them with `otelbridge spool replay`."),
    Entry("spool-other-endpoint", "warning", "Spans wait for an endpoint that is no longer set",
          "A spool belongs to one endpoint and account, so that nobody's data goes elsewhere: "
          "after a change of address or keys the new processes leave the old one's spans alone.",
          "A spool of OTEL_SERVICE_NAME holds spans older than 15 minutes, and the settings lead "
          "to another endpoint or account.",
          "`otelbridge spool replay --to URL` sends them where you say, `otelbridge spool purge` "
          "removes them."),
    Entry("spool-full", "warning", "The spool is nearly full",
          "At its cap the oldest spans are dropped.",
          "Its files take more than nine tenths of OTELBRIDGE_SPOOL_MAX_BYTES.",
          "See to the endpoint, or raise OTELBRIDGE_SPOOL_MAX_BYTES."),
    Entry("spool-dropped", "warning", "Spans were dropped at the spool's cap",
          "An outage was longer than OTELBRIDGE_SPOOL_MAX_BYTES holds; the oldest spans are lost.",
          "The count that the processes of the service keep beside the segments.",
          "Raise OTELBRIDGE_SPOOL_MAX_BYTES; `otelbridge spool purge` sets the count back."),
    Entry("spool-damaged", "warning", "Damaged files in the spool",
          "A record whose checksum was wrong was not sent: a disk that fails, or a power cut. Its "
          "file is kept for a look and counts against the cap.",
          "Files set aside in the directory of a spool.",
          "Look at the disk; `otelbridge spool purge` removes them."),
)  # fmt: skip
