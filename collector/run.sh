#!/usr/bin/env bash
# Starts the Collector with what it needs, in place of this script (the process id stays the same):
# - with both Langfuse keys collector/config.yaml, else config.no-langfuse.yaml;
# - a queue file that cannot be opened is set aside, not deleted, and named on stderr: the Collector
#   would end at every start because of it. Each file is tried first, in a Collector that does nothing
#   else and reaches nobody, because only opening it tells (about 0.1 s each);
# - overlays and further files as arguments:  collector/run.sh --config collector/overlays/tls.yaml
# It needs no root: any user who may write the queue directory.
#
# OTELBRIDGE_COLLECTOR_BINARY: the binary; default is the one that collector/build.sh made.
# OTELBRIDGE_COLLECTOR_AUTH_TOKEN_FILE: read into OTELBRIDGE_COLLECTOR_AUTH_TOKEN (overlay auth-bearer).
# OTELBRIDGE_COLLECTOR_QUEUE_DIR and all others: docs/collector.md.
# GOGC, GOMEMLIMIT: how often the Collector collects garbage; set here when they are not.
# Exit: 1 no binary or no token; else the Collector's own status.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
queue="${OTELBRIDGE_COLLECTOR_QUEUE_DIR:-otelbridge-collector-queue}"
say() { echo "collector: $*" >&2; }

binary="${OTELBRIDGE_COLLECTOR_BINARY:-}"
if [ -z "$binary" ]; then
  binary="$("$here/build.sh")" || exit 1
fi
if [ ! -x "$binary" ]; then
  say "OTELBRIDGE_COLLECTOR_BINARY=$binary is not an executable file"
  exit 1
fi

token_file="${OTELBRIDGE_COLLECTOR_AUTH_TOKEN_FILE:-}"
if [ -n "$token_file" ]; then
  OTELBRIDGE_COLLECTOR_AUTH_TOKEN="$(head -n 1 -- "$token_file" | tr -d '[:space:]')" || true
  if [ -z "$OTELBRIDGE_COLLECTOR_AUTH_TOKEN" ]; then
    say "OTELBRIDGE_COLLECTOR_AUTH_TOKEN_FILE=$token_file holds no token"
    exit 1
  fi
  export OTELBRIDGE_COLLECTOR_AUTH_TOKEN
fi

config="$here/config.no-langfuse.yaml"
if [ -n "${LANGFUSE_PUBLIC_KEY:-}" ] && [ -n "${LANGFUSE_SECRET_KEY:-}" ]; then
  config="$here/config.yaml"
elif [ -n "${LANGFUSE_PUBLIC_KEY:-}${LANGFUSE_SECRET_KEY:-}" ]; then
  say "only one of LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY is set: nothing is sent to Langfuse"
fi

# -- queue files -----------------------------------------------------------------------------------
trial=""
cleanup() {
  if [ -n "$trial" ]; then kill -9 "$trial" 2>/dev/null || true; fi
  rm -rf -- "$queue/.trial"
}
trap cleanup EXIT
trap 'exit 143' INT TERM

# trial_config <signal>: one exporter to a closed port, so that what it takes from the queue goes back
# into it; the queue counts as that of the layers does.
trial_config() {
  cat <<END
extensions: {file_storage: {directory: "$queue/.trial", timeout: 1s}}
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:0"}}}}
exporters:
  otlp_http/trial:
    endpoint: http://127.0.0.1:1
    retry_on_failure: {max_elapsed_time: 0s}
    sending_queue: {storage: file_storage, sizer: items, queue_size: 1000000000, num_consumers: 1}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}}
  pipelines: {$1: {receivers: [otlp], exporters: [otlp_http/trial]}}
END
}

# opens <file> <signal>: false when the file is damaged. In doubt (locked by another Collector, not
# readable, still opening after a minute) true: the real start says what is wrong.
opens() {
  local output="$queue/.trial/output" deadline=$((SECONDS + 60)) status=0
  mkdir -p -- "$queue/.trial"
  : >"$output" # else the last one's words would be read
  ln -sfn -- "../${1##*/}" "$queue/.trial/exporter_otlp_http_trial_$2"
  env -i "$binary" --config "yaml:$(trial_config "$2")" >"$output" 2>&1 &
  trial=$!
  while kill -0 "$trial" 2>/dev/null && ((SECONDS < deadline)) &&
    ! grep -q "Everything is ready" "$output"; do
    sleep 0.03
  done
  kill -TERM "$trial" 2>/dev/null || true
  wait "$trial" || status=$?
  trial=""
  ((status == 0)) ||
    ! grep -qE "invalid database|checksum error|version mismatch|file size too small|bbolt" "$output"
}

# complete <file>: false when it ends before the last of its pages, which the trial need not read (and
# would add). The number of pages is at byte 56 of its first two pages; the smaller one decides.
complete() {
  local page offset pages least=""
  page="$(getconf PAGESIZE)"
  for offset in 56 $((page + 56)); do
    pages="$(od -An -tu8 -j "$offset" -N 8 -- "$1" | tr -d ' ')"
    if [ "${#pages}" -gt 12 ]; then continue; fi # no such number: only the other one is good
    if [ -z "$least" ] || ((pages < least)); then least="$pages"; fi
  done
  (($(wc -c <"$1") >= ${least:-0} * page))
}

for file in "$queue"/exporter_*_{traces,metrics,logs}; do
  if [ -s "$file" ] && [ -r "$file" ] && ! { complete "$file" && opens "$file" "${file##*_}"; }; then
    aside="$file.$(date -u +%Y%m%dT%H%M%SZ).$$.damaged" # $$: one name for each start
    mv -- "$file" "$aside"
    say "queue file is damaged and was set aside: $aside (its spans are not sent)"
  fi
done
cleanup
trap - EXIT INT TERM

# Garbage is collected less often (a quarter less CPU), but more often near the limit at which the
# memory limiter refuses, which counts garbage as well.
limit_mib="${OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB:-512}" spike_mib="${OTELBRIDGE_COLLECTOR_MEMORY_SPIKE_MIB:-128}"
export GOGC="${GOGC:-400}" GOMEMLIMIT="${GOMEMLIMIT:-$(((limit_mib - spike_mib) * 3 / 4))MiB}"

exec "$binary" --config "$config" "$@"
