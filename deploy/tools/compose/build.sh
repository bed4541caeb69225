#!/usr/bin/env bash
# Builds the real compose into <project>/.cache/compose/<hash>-<go version>/ and prints the path of
# the binary. `compose config` needs no container engine, so tests render docker-compose.yml with it.
# The hash is that of go.mod and go.sum here; a second call returns at once. Compose cannot be had by
# `go install` (its go.mod has an exclude), hence a module of its own with compose as its tool.
#
# Exit: 0 built or already there, 1 the build failed (the log's path is printed), 2 no usable Go.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="$(cd "$here/../../.." && pwd)/.cache/compose"
say() { echo "compose: $*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

needed="$(awk '$1 == "go" {print $2; exit}' "$here/go.mod")"
if ! command -v go >/dev/null; then
  say "Go is not installed; $needed or newer is needed (https://go.dev/dl/)"
  exit 2
fi
go_version="$(cd "$here" && GOTOOLCHAIN=local go env GOVERSION)"
have="${go_version#go}"
have="${have%%[^0-9.]*}"
if [ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n 1)" != "$needed" ]; then
  say "Go $have is too old; $needed or newer is needed (https://go.dev/dl/)"
  exit 2
fi

target="$cache/$(cat "$here/go.mod" "$here/go.sum" | sha256 | cut -c 1-16)-$go_version"
if [ ! -x "$target/docker-compose" ]; then
  export GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false" CGO_ENABLED=0 GOTOOLCHAIN=local
  mkdir -p "$cache"
  work="$(mktemp -d "$cache/tmp.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  version="$(awk '$1 == "github.com/docker/compose/v5" {print $2}' "$here/go.mod")"
  say "building compose $version, once; 2 to 3 minutes on 2 cores when nothing is cached"
  if ! (cd "$here" && go build -trimpath -o "$work/out/docker-compose" -ldflags \
    "-s -w -X github.com/docker/compose/v5/internal.Version=$version" \
    github.com/docker/compose/v5/cmd) >"$cache/build.log" 2>&1; then
    say "failed. The last lines of $cache/build.log:"
    tail -n 15 "$cache/build.log" >&2
    exit 1
  fi
  if [ ! -x "$target/docker-compose" ]; then mv "$work/out" "$target"; fi # else another was faster
fi
echo "$target/docker-compose"
