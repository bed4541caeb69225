#!/usr/bin/env bash
# Validates every combination of the configurations and overlays with the built Collector:
# config.yaml and config.no-langfuse.yaml, each with every subset of the overlays, and the front tier
# (base layer and load-balancing) with every subset of those that concern its receiver and queue.
# Prints one line for each that fails and a count. Exit: 0 all valid, 1 some not or no binary.
#
#   collector/validate.sh [--short] [binary]      --short: only none, each one, and all overlays
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
short=""
if [ "${1:-}" = "--short" ]; then
  short=1
  shift
fi
binary="${1:-${OTELBRIDGE_COLLECTOR_BINARY:-}}"
[ -n "$binary" ] || binary="$("$here/build.sh")"
overlays=(auth debug fsync langfuse-proxy sampling tls)
front=(auth debug fsync tls)

# subsets <name...>: every subset, one a line, as --config options
subsets() {
  local names=("$@") mask index line
  for ((mask = 0; mask < 1 << ${#names[@]}; mask++)); do
    line=""
    # with --short: no overlay, a single one (a power of two), or all of them
    if [ -n "$short" ] && ((mask & (mask - 1))) && ((mask != (1 << ${#names[@]}) - 1)); then
      continue
    fi
    for ((index = 0; index < ${#names[@]}; index++)); do
      if ((mask >> index & 1)); then line+=" --config $here/overlays/${names[index]}.yaml"; fi
    done
    echo "$line"
  done
}

list() {
  local base
  for base in config.yaml config.no-langfuse.yaml; do
    subsets "${overlays[@]}" | sed "s|^|--config $here/$base|"
  done
  subsets "${front[@]}" |
    sed "s|^|--config $here/layers/base.yaml --config $here/overlays/load-balancing.yaml|"
}

one() { # one combination, its options as one argument
  local output
  # shellcheck disable=SC2086 # the options are words
  if ! output="$(env -i "$binary" validate $1 2>&1)"; then
    echo "not valid: $1"
    echo "  ${output:0:500}"
    return 1
  fi
}
export -f one
export binary

count="$(list | wc -l)"
if list | tr '\n' '\0' | xargs -0 -P "$(nproc 2>/dev/null || echo 2)" -I{} bash -c 'one "$1"' _ {}; then
  echo "$count combinations are valid"
else
  echo "collector: some of $count combinations are not valid" >&2
  exit 1
fi
