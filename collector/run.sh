#!/usr/bin/env bash
# Starts the Collector with what it needs, in place of this script (the process id stays the same):
# - with both Langfuse keys collector/config.yaml, else config.no-langfuse.yaml;
# - a queue file that is no database any more is set aside, not deleted, and named on stderr; the
#   Collector would refuse to start because of it. Damage inside a file, which only shows as a crash
#   while it is opened, is set aside by the Collector itself (recreate: true);
# - overlays and further files as arguments:  collector/run.sh --config collector/overlays/tls.yaml
#
# OTELBRIDGE_COLLECTOR_BINARY: the binary; default is the one that collector/build.sh made.
# OTELBRIDGE_COLLECTOR_QUEUE_DIR: as in docs/collector.md.
# Exit: 1 no binary; else the Collector's own status.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
say() { echo "collector: $*" >&2; }

binary="${OTELBRIDGE_COLLECTOR_BINARY:-}"
if [ -z "$binary" ]; then
  binary="$("$here/build.sh")" || exit 1
fi
if [ ! -x "$binary" ]; then
  say "OTELBRIDGE_COLLECTOR_BINARY=$binary is not an executable file"
  exit 1
fi

config="$here/config.no-langfuse.yaml"
if [ -n "${LANGFUSE_PUBLIC_KEY:-}" ] && [ -n "${LANGFUSE_SECRET_KEY:-}" ]; then
  config="$here/config.yaml"
elif [ -n "${LANGFUSE_PUBLIC_KEY:-}${LANGFUSE_SECRET_KEY:-}" ]; then
  say "only one of LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY is set: nothing is sent to Langfuse"
fi

# A bbolt database has its magic number 0xED0CDAED, little endian, at byte 16 of its first page or,
# while that one is being written, of its second (page size: that of the machine that made it).
is_database() {
  local offset
  for offset in 16 4112 16400 65552; do
    if [ "$(od -An -tx1 -j "$offset" -N 4 -- "$1" 2>/dev/null | tr -d ' \n')" = "edda0ced" ]; then
      return 0
    fi
  done
  return 1
}

queue="${OTELBRIDGE_COLLECTOR_QUEUE_DIR:-otelbridge-collector-queue}"
for file in "$queue"/exporter_*; do
  case "$file" in *.damaged | *.backup) continue ;; esac
  if [ -s "$file" ] && ! is_database "$file"; then
    aside="$file.$(date -u +%Y%m%dT%H%M%SZ).damaged"
    mv -- "$file" "$aside"
    say "queue file is damaged and was set aside: $aside (its spans are not sent)"
  fi
done

exec "$binary" --config "$config" --config "yaml:extensions::file_storage/queue::recreate: true" "$@"
