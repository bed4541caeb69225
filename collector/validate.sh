#!/usr/bin/env bash
# Validates combinations of the configurations and overlays with the built Collector:
# - config.yaml and config.no-langfuse.yaml, each plain, with each overlay, with each two and with all
#   of them. A merge replaces lists whole, so what is wrong with a combination is wrong with two files
#   of it; --all tries every subset all the same (4,096 for 12 overlays; minutes);
# - the same of the front tier (base layer and load-balancing), with the overlays that concern it.
# Parsing the rules of the transform processors is nine tenths of the time, and overlays do not touch
# them: they are left out here, and read whole for plain and for all overlays, with keys and without.
# Prints each combination that fails and a count. Exit: 0 all valid, 1 some not or no binary.
#
#   collector/validate.sh [--all] [binary]
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
every=""
if [ "${1:-}" = "--all" ]; then
  every=1
  shift
fi
binary="${1:-${OTELBRIDGE_COLLECTOR_BINARY:-}}"
[ -n "$binary" ] || binary="$("$here/build.sh")"

# In this order zpages and the logins may be combined (overlays/zpages.yaml).
middle=()
for file in "$here"/overlays/*.yaml; do
  name="$(basename "$file" .yaml)"
  case "$name" in zpages | auth | auth-bearer | load-balancing) ;; *) middle+=("$name") ;; esac
done
overlays=(zpages "${middle[@]}" auth auth-bearer)
front=(zpages debug fsync tls auth auth-bearer)

# subsets <name...>: combinations of overlays, one a line, as --config options
subsets() {
  local names=("$@") count=$# mask index line chosen
  for ((mask = 0; mask < 1 << count; mask++)); do
    line="" chosen=0
    for ((index = 0; index < count; index++)); do
      if ((mask >> index & 1)); then
        line+=" --config $here/overlays/${names[index]}.yaml"
        chosen=$((chosen + 1))
      fi
    done
    if [ -n "$every" ] || ((chosen <= 2 || chosen == count)); then echo "$line"; fi
  done
}

# without_rules <file>: options that empty the rules of its transform processors (JSON: no blanks)
without_rules() {
  awk '/^  [a-z].*:$/ {name = $1} /^    (trace|metric|log)_statements:/ {
    gsub(":", "", name); gsub(":", "")
    printf " --config yaml:{\"processors\":{\"%s\":{\"%s\":[]}}}", name, $1 }' "$1"
}

list() {
  local base all rules
  all="$(printf " --config $here/overlays/%s.yaml" "${overlays[@]}")"
  for base in "$here/config.yaml" "$here/config.no-langfuse.yaml"; do
    printf '%s\n' "--config $base" "--config $base$all" # first: they take longest
  done
  printf '%s\n' "keys --config $here/config.yaml" "keys --config $here/config.yaml$all"
  for base in "$here/config.yaml" "$here/config.no-langfuse.yaml"; do
    rules="$(without_rules "$base")"
    subsets "${overlays[@]}" | sed "s|^|--config $base$rules|"
  done
  base="$here/layers/base.yaml"
  rules="$(without_rules "$base")"
  subsets "${front[@]}" | sed "s|^|--config $base$rules --config $here/overlays/load-balancing.yaml|"
}

one() { # one combination, its options as one argument
  local options="$1" variables=(OTELBRIDGE_COLLECTOR_AUTH_TOKEN=made-up) output
  if [ "${options%% *}" = keys ]; then
    options="${options#keys }"
    variables+=(LANGFUSE_PUBLIC_KEY=pk-lf-made-up LANGFUSE_SECRET_KEY=sk-lf-made-up)
  fi
  # shellcheck disable=SC2086 # the options are words
  if ! output="$(env -i "${variables[@]}" "$binary" validate $options 2>&1)"; then
    echo "not valid: $(sed 's/ --config yaml:[^ ]*//g' <<<"$options")"
    echo "  ${output:0:500}"
    return 1
  fi
}
export -f one
export binary

combinations="$(list)"
count="$(wc -l <<<"$combinations")"
if tr '\n' '\0' <<<"$combinations" |
  xargs -0 -P "$(nproc 2>/dev/null || echo 2)" -I{} bash -c 'one "$1"' _ {}; then
  echo "$((count)) combinations are valid"
else
  echo "collector: some of $((count)) combinations are not valid" >&2
  exit 1
fi
