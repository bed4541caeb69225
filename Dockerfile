# Two images, by target (docker-compose.yml builds both):
#   services   the demo services and the `otelbridge` command
#   collector  the otelbridge Collector, built from collector/builder.yaml
# Digests are those of the multi-platform index: amd64 and arm64. `make pin` renews them.

# -- services --------------------------------------------------------------------------------------
FROM docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Locks first: a change of the code leaves these layers as they are. Wheels only, so nothing compiles.
COPY deploy/image/build.lock deploy/image/requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv \
    && pip install --require-hashes --only-binary :all: -r build.lock \
    && pip --python /venv/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY otelbridge ./otelbridge
COPY examples/services ./examples/services
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && pip --python /venv/bin/python install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS services
RUN groupadd --gid 10001 otelbridge \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin otelbridge
COPY --from=wheels /venv /venv
COPY examples/services /srv/services
# HOME: what looks for a directory of its user's (the spool) finds one that anybody may write.
ENV PATH=/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/services
USER 10001:10001
# Python ends at SIGINT in order, and sends its last spans; SIGTERM it would not even hear as process 1.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ.get('HEALTH_URL', 'http://127.0.0.1:8000/healthz'), timeout=4)"]
CMD ["otelbridge", "--help"]

# -- collector -------------------------------------------------------------------------------------
FROM docker.io/library/golang:1.26.8-trixie@sha256:bdca99a00bc16590cb1a0bb4e698f5fc5d6a64e4d5eef13d9f18a0ee08e5fa65 AS collector-build
ENV GOTOOLCHAIN=local
WORKDIR /src
COPY collector/build.sh collector/builder.yaml ./collector/
COPY collector/lock ./collector/lock
# The same script as on a developer's machine: locked modules, checksums verified. Minutes, once.
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go/pkg/mod \
    binary="$(collector/build.sh)" && install -D "$binary" /out/otelbridge-collector \
    && install -d -o 10001 -g 10001 -m 0700 /out/state

# Not from scratch: run.sh, which sets damaged queue files aside, and the health check need a shell.
FROM docker.io/library/debian:trixie-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a AS collector
RUN groupadd --gid 10001 otelbridge \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin otelbridge
COPY --from=collector-build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=collector-build /out/otelbridge-collector /usr/local/bin/otelbridge-collector
# The directory of the queues belongs to the user here; a new named volume takes that over.
COPY --from=collector-build --chown=10001:10001 /out/state /var/lib/otelbridge
COPY collector/run.sh collector/config.yaml collector/config.no-langfuse.yaml /opt/otelbridge/collector/
COPY collector/overlays /opt/otelbridge/collector/overlays
ENV OTELBRIDGE_COLLECTOR_BINARY=/usr/local/bin/otelbridge-collector \
    OTELBRIDGE_COLLECTOR_QUEUE_DIR=/var/lib/otelbridge/queue
WORKDIR /var/lib/otelbridge
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/13133 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["/opt/otelbridge/collector/run.sh"]
