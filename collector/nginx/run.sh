#!/usr/bin/env bash
# Runs the proxy in front of Langfuse (langfuse-proxy.conf.template) in the foreground.
# Variables: LANGFUSE_PROXY_UPSTREAM (such as http://127.0.0.1:3000), LANGFUSE_PROXY_LISTEN
# (default 127.0.0.1:8081), LANGFUSE_PROXY_DIR (default: a new temporary directory).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
: "${LANGFUSE_PROXY_UPSTREAM:?give the base URL of Langfuse, such as http://127.0.0.1:3000}"
listen="${LANGFUSE_PROXY_LISTEN:-127.0.0.1:8081}"
dir="${LANGFUSE_PROXY_DIR:-$(mktemp -d)}"
upstream="${LANGFUSE_PROXY_UPSTREAM%/}"

mkdir -p "$dir"
chmod 700 "$dir"
sed -e "s|\${LANGFUSE_PROXY_LISTEN}|$listen|g" -e "s|\${LANGFUSE_PROXY_UPSTREAM}|$upstream|g" \
  -e "s|\${LANGFUSE_PROXY_DIR}|$dir|g" "$here/langfuse-proxy.conf.template" >"$dir/nginx.conf"
exec nginx -p "$dir" -e stderr -c "$dir/nginx.conf"
