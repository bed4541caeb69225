"""Explanations of the codes about variables: endpoints, propagation, content, headers, keys.

Data only. `table` gathers this and the other tables for `--explain` and docs/troubleshooting.md;
the functions that find these are in `endpoint_checks`, `settings_checks` and `header_checks`.
"""

from __future__ import annotations

from typing import Final

from otelbridge.doctor.findings import Entry

_ENDPOINTS: Final = (
    Entry("settings-good", "ok", "Settings can be read",
          "Every variable that otelbridge reads has a value that can be used.",
          "The settings are read as a service would read them."),
    Entry("settings-unusable", "error", "A setting cannot be used",
          "A service with this environment stops at start-up with the same message.",
          "Reading the settings raises an error.",
          "Correct or unset the variable; `otelbridge config` lists what is allowed."),
    Entry("settings-repaired", "warning", "A setting is not used as it was given",
          "otelbridge took a nearby or default value instead. Other programs that read the same"
          " variable (the stock SDK, the Collector) do something else or fail.",
          "Reading the settings gives a warning that no other code covers.",
          "Do what the sentence says; `otelbridge config` shows the value in force."),
    Entry("endpoint-path-doubled", "warning", "/v1/traces at the end of a base URL",
          "OTEL_EXPORTER_OTLP_ENDPOINT is a base: exporters add /v1/traces. otelbridge does not"
          " add it twice; the stock exporters of every language do and get 404.",
          "The base URL ends with /v1/traces.",
          "Take /v1/traces off, or move the URL to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT."),
    Entry("endpoint-path-missing", "error", "No path in the URL for traces",
          "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it stands. Without /v1/traces the "
          "receiver answers 404 and every span is lost.",
          "The URL for traces has no path.",
          "Add /v1/traces, or use OTEL_EXPORTER_OTLP_ENDPOINT, to which it is added."),
    Entry("endpoint-unusable", "error", "The endpoint is no http or https URL",
          "The exporter falls back to http://localhost:4318 or fails.",
          "The text cannot be taken apart as scheme, host and port.",
          "Write scheme, host and port, such as http://localhost:4318."),
    Entry("endpoint-no-scheme", "warning", "An address without http:// or https://",
          "otelbridge adds the scheme; the stock HTTP exporter fails with `Invalid URL` or `No "
          "connection adapters`.",
          "The address has no `://`.",
          "Write http:// or https:// in front."),
    Entry("endpoint-wrong-port", "error", "The OTLP endpoint is the port of something else",
          "Spans go to a port on which by convention no OTLP receiver listens: Tempo's or "
          "Loki's API, Grafana, Prometheus, the Collector's health check or metrics.",
          "The port is one of 3000, 3001, 3100, 3200, 8888, 8889, 9090 or 13133.",
          "Use port 4318 of the Collector (4317 for gRPC)."),
    Entry("endpoint-both-variables", "note", "Two variables for the endpoint",
          "For traces OTEL_EXPORTER_OTLP_TRACES_ENDPOINT wins and is used as it stands; the "
          "general one counts for metrics and logs only.",
          "Both are set and lead to different URLs.",
          "Unset one of them if that is not meant."),
    Entry("langfuse-endpoint-path", "error", "OTLP to Langfuse without its OTLP path",
          "Langfuse takes OTLP at /api/public/otel (base URL) and /api/public/otel/v1/traces "
          "(URL for traces). Anywhere else it answers 404, 405 or with a web page.",
          "The host of the OTLP endpoint is Langfuse's and the path is another one.",
          "Set OTEL_EXPORTER_OTLP_ENDPOINT to <Langfuse>/api/public/otel; better, send to the "
          "Collector and let it send to Langfuse."),
    Entry("langfuse-host-path", "warning", "A path in the Langfuse address",
          "LANGFUSE_HOST is the address that a browser opens. Clients add /api/public/… to it; "
          "with the OTLP path or a page's path in it they ask for pages that do not exist.",
          "The path ends with /api/public…, /v1/traces or holds /project/.",
          "Give scheme and host only, such as https://cloud.langfuse.com."),
    Entry("langfuse-grpc", "error", "gRPC to Langfuse",
          "Langfuse takes OTLP over HTTP only; with gRPC every export fails and nothing is "
          "stored.",
          "The OTLP endpoint is Langfuse's, with protocol grpc or port 4317.",
          "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the path /api/public/otel; better,"
          " send to the Collector."),
    Entry("grpc-port-with-http", "warning", "HTTP on the gRPC port 4317",
          "4317 is OTLP over gRPC. otelbridge's own exporter goes to port 4318 of the same "
          "host; the stock HTTP exporter talks HTTP/1.1 to a gRPC server and loses every span.",
          "Port 4317 with a protocol that is not grpc.",
          "Use port 4318, or OTELBRIDGE_EXPORTER=stock with OTEL_EXPORTER_OTLP_PROTOCOL=grpc."),
    Entry("http-port-with-grpc", "error", "gRPC on the HTTP port 4318",
          "4318 is OTLP over HTTP; a gRPC client gets `UNAVAILABLE` or a protocol error.",
          "Protocol grpc with port 4318.",
          "Use port 4317, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf."),
    Entry("grpc-not-spoken", "warning", "gRPC asked of otelbridge's own exporter",
          "OTELBRIDGE_EXPORTER=bridge speaks HTTP only and uses port 4318 of the same host.",
          "Protocol grpc with OTELBRIDGE_EXPORTER=bridge, the default.",
          "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or OTELBRIDGE_EXPORTER=stock."),
    Entry("protocol-both-variables", "warning", "Two variables for the protocol, two answers",
          "For traces OTEL_EXPORTER_OTLP_TRACES_PROTOCOL wins; code that builds its exporter by"
          " hand often reads only the general one.",
          "Both are set and differ.",
          "Unset one of them."),
    Entry("https-to-plain", "warning", "https to a plain local port",
          "Receivers on this machine and in this stack speak plain HTTP; TLS ends with `wrong "
          "version number` or a time-out.",
          "https:// with a loopback or single-label host and a port of the stack.",
          "Write http://, or give the server a certificate."),
    Entry("http-to-public", "error", "Plain http to a public host",
          "Keys and message texts would travel unencrypted; Langfuse Cloud answers http with a "
          "redirect, which turns the POST into a GET, and spans are lost.",
          "http:// with a host that is no local, private or cluster address.",
          "Write https://."),
    Entry("tempo-port-3100", "error", "Loki's port for Tempo",
          "3100 is Loki's port by convention; Tempo's API is on 3200. Queries end with 404.",
          "OTELBRIDGE_TEMPO_URL has port 3100.",
          "Use port 3200."),
    Entry("tempo-url-wrong", "error", "The Tempo address is not that of its API",
          "OTELBRIDGE_TEMPO_URL is the base of Tempo's API, port 3200, without path. The OTLP "
          "ports take spans and answer no queries; 3000 and 3001 are Langfuse and Grafana.",
          "The port is a known one of something else, or the path is one of the API's.",
          "Give http://<host>:3200."),
    Entry("link-not-for-browsers", "warning", "A link that no browser can open",
          "Links are built from LANGFUSE_PUBLIC_URL and OTELBRIDGE_GRAFANA_URL. Names of "
          "containers and cluster services mean nothing to a browser.",
          "The host is a single-label name, host.docker.internal, *.svc or *.cluster.local.",
          "Give the address that the browser shows, such as http://localhost:3000."),
)  # fmt: skip

_BEHAVIOUR: Final = (
    Entry("value-whitespace", "warning", "Spaces or a line end around a value",
          "otelbridge strips them. Docker's --env-file, the Collector and Langfuse's SDKs do "
          "not: a key with a trailing space is a different key, an address with one is none.",
          "The raw text begins or ends with white space, or ends with a carriage return.",
          "Take it off; a carriage return comes from a file with Windows line ends."),
    Entry("value-quoted", "error", "Quotes that are part of the value",
          "Shells and compose remove quotes, `docker run --env-file`, systemd's Environment= "
          "inside a list and Kubernetes manifests do not: the quotes go into the address or "
          "key.",
          "The text in force begins and ends with a quote.",
          "Take the quotes off."),
    Entry("value-placeholder", "error", "A placeholder instead of a value",
          "A template was copied and not filled in, or the variable it names was not replaced.",
          "The text is like `<your-key>`, `pk-lf-...`, `changeme` or still holds `${...}`.",
          "Fill it in; `otelbridge init` writes a complete .env."),
    Entry("traces-exporter-off", "warning", "Spans are made and not sent",
          "OTEL_TRACES_EXPORTER=none or console: neither Tempo nor Langfuse gets anything.",
          "The value of the variable.",
          "Unset it, or set OTEL_TRACES_EXPORTER=otlp."),
    Entry("sdk-disabled", "warning", "The SDK is switched off",
          "OTEL_SDK_DISABLED=true: no spans at all.",
          "The value of the variable.",
          "Unset it."),
    Entry("config-file-wins", "warning", "A declarative configuration file wins",
          "With OTEL_CONFIG_FILE the SDK builds its pipeline from the file; exporter, sampler "
          "and limit variables have no effect.",
          "OTEL_CONFIG_FILE is set.",
          "Unset it, or change the file instead of variables."),
    Entry("sampler-off", "warning", "The sampler records nothing",
          "always_off, or a ratio of 0: no trace that begins here is recorded.",
          "OTEL_TRACES_SAMPLER and its argument.",
          "Unset OTEL_TRACES_SAMPLER, or give a ratio above 0."),
    Entry("sampler-breaks-traces", "warning", "Each service samples by itself",
          "always_off and traceidratio ignore the caller's decision: services with different "
          "ratios keep pieces of traces. Langfuse then shows observations without their "
          "parents.",
          "OTEL_TRACES_SAMPLER=traceidratio.",
          "Use parentbased_traceidratio."),
    Entry("sampler-unusable", "warning", "A sampler or ratio that the SDK does not know",
          "The SDK logs a warning and records everything.",
          "The name is none of the specification's, or the argument is no number from 0 to 1.",
          "Use parentbased_traceidratio and OTEL_TRACES_SAMPLER_ARG from 0 to 1."),
    Entry("propagators-missing", "error", "No W3C trace context",
          "Without `tracecontext` no traceparent is sent or read: each service has traces of "
          "its own, and there is no root above the LLM calls.",
          "OTEL_PROPAGATORS is `none` or does not hold `tracecontext`.",
          "Unset OTEL_PROPAGATORS, or add tracecontext,baggage."),
    Entry("propagators-no-baggage", "warning", "User and session stay in the first service",
          "`request_context` sends user, session and tags to the services behind it as W3C "
          "baggage.",
          "OTEL_PROPAGATORS has `tracecontext` and no `baggage`.",
          "Set OTEL_PROPAGATORS=tracecontext,baggage."),
    Entry("propagators-unknown", "warning", "A propagator that is not installed",
          "otelbridge leaves it out; the stock SDK stops at start-up.",
          "A name in OTEL_PROPAGATORS is neither built in nor an installed entry point.",
          "Correct it: tracecontext,baggage; b3 and jaeger come in packages of their own."),
    Entry("trusted-hosts-deny", "warning", "A pattern takes a service of yours away",
          "OTELBRIDGE_TRUSTED_HOSTS denies a host to which a variable here points: requests "
          "there carry no traceparent and the callee begins a trace of its own.",
          "Each URL in the environment is asked of the rule; a `!pattern` decides.",
          "Remove the pattern, or add a narrower one."),
    Entry("trusted-hosts-pattern", "warning", "A pattern that can never match",
          "Patterns are compared with the bare host: no port, no leading dot.",
          "The pattern has a port or path, or begins with a dot.",
          "Write `host`, `*.domain`, an address or a network."),
    Entry("trusted-hosts-all", "note", "Every host gets trace context and baggage",
          "`*` sends user and session ids to model providers as well.",
          "OTELBRIDGE_TRUSTED_HOSTS holds `*`.",
          "Name your hosts, or add `!api.openai.com` and the like."),
    Entry("host-untrusted", "note", "A public host gets no trace context",
          "Right for a third party. For a service of yours the trace breaks there.",
          "A URL in the environment has a public host that no pattern names and no known "
          "provider has.",
          "If it is yours, add the host to OTELBRIDGE_TRUSTED_HOSTS."),
    Entry("edge-trusts-inbound", "warning", "An edge believes its callers",
          "Whoever calls can choose the trace id, join other people's traces and send baggage "
          "that is written to spans as user or session.",
          "OTEL_SERVICE_NAME reads like an edge (gateway, edge, frontend, bff, ingress, proxy) "
          "and OTELBRIDGE_TRUST_INBOUND is not false.",
          "Set OTELBRIDGE_TRUST_INBOUND=false for this service if strangers can reach it; "
          "`true`, written out, says that it is meant."),
    Entry("inbound-not-believed", "note", "Every request begins a new trace",
          "OTELBRIDGE_TRUST_INBOUND=false is for the edge. Behind it the tree falls apart at "
          "each such service.",
          "It is false and OTEL_SERVICE_NAME does not read like an edge.",
          "Unset it for services that only your own services call."),
    Entry("content-unknown", "warning", "A content mode that nobody knows",
          "Text that is not understood counts as NO_CONTENT: input and output stay empty in "
          "Langfuse.",
          "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT.",
          "Use SPAN_ONLY, or NO_CONTENT if that is meant."),
    Entry("content-not-on-spans", "warning", "Message text where Langfuse does not look",
          "Langfuse reads span attributes, not events or logs: input and output stay empty.",
          "The content mode is EVENT_ONLY.",
          "Use SPAN_ONLY or SPAN_AND_EVENT."),
    Entry("content-off", "note", "No message text",
          "Input and output, those of the root as well, are empty in Langfuse.",
          "The content mode is NO_CONTENT.",
          "Set SPAN_ONLY if the texts may leave the process."),
    Entry("queue-small", "warning", "A short export queue",
          "Spans beyond it are dropped, silently, as soon as the receiver is slow. 20,480 "
          "outlast a 20-second outage at 1,000 spans per second.",
          "OTEL_BSP_MAX_QUEUE_SIZE is below 2,048, the SDK's own default.",
          "Unset OTEL_BSP_MAX_QUEUE_SIZE."),
    Entry("attribute-limit-small", "warning", "Too few attributes per span",
          "An LLM span with content, usage, cost and context can have more than 64; the SDK "
          "drops the first ones when more come.",
          "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT or OTEL_ATTRIBUTE_COUNT_LIMIT is below 128.",
          "Unset it: 256 is the default here."),
    Entry("attribute-length-limit", "warning", "Message texts are cut",
          "Messages are JSON in one attribute. otelbridge's own export path cuts inside of it; a "
          "provider that the application or OTEL_CONFIG_FILE made cuts in the middle, and "
          "Langfuse shows a broken text.",
          "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT or its form for spans is set.",
          "Unset it: OTELBRIDGE_ATTRIBUTE_MAX_BYTES bounds what leaves the process, NO_CONTENT "
          "is for what must not be stored."),
    Entry("timeout-unit", "warning", "A time-out in another unit",
          "The Python SDK reads OTEL_EXPORTER_OTLP_TIMEOUT as seconds, the specification as "
          "milliseconds: 10000 is 2.8 hours for the stock Python exporter.",
          "The value is 1000 or more.",
          "Give seconds to Python services."),
    Entry("langfuse-off", "note", "Langfuse is switched off",
          "Every span is marked as outside the LLM view; Tempo gets all of them.",
          "LANGFUSE_ENABLED=false.",
          "Unset it."),
    Entry("langfuse-sample-zero", "warning", "Langfuse's share of the traces is 0",
          "Langfuse gets nothing, without a message anywhere.",
          "LANGFUSE_SAMPLE_RATE=0.",
          "Unset it, or give a number above 0 up to 1."),
    Entry("service-name-missing", "note", "No service name",
          "Spans are those of `unknown_service`; dashboards and searches by service cannot tell"
          " them apart.",
          "Neither OTEL_SERVICE_NAME nor service.name in OTEL_RESOURCE_ATTRIBUTES is set.",
          "Set OTEL_SERVICE_NAME for each service."),
    Entry("project-id-missing", "note", "No project id for links",
          "Links into Langfuse need the project's id.",
          "There are keys and no LANGFUSE_PROJECT_ID.",
          "Set LANGFUSE_PROJECT_ID; the doctor names it when it can ask Langfuse."),
)  # fmt: skip

_HEADERS: Final = (
    Entry("header-not-pair", "error", "OTLP headers that are no key=value",
          "The list is `key=value,key2=value2`. `Authorization: Basic …`, as in HTTP, is left "
          "out, and the receiver answers 401.",
          "A part of OTEL_EXPORTER_OTLP_HEADERS has no `=` in front of its value.",
          "Write Authorization=Basic%20<base64 of public:secret>."),
    Entry("header-space", "note", "A space in an OTLP header",
          "Values are percent-encoded by the specification. Newer SDKs take the space; some "
          "languages and older versions leave the header out or cut it.",
          "A literal space in the value.",
          "Write %20 for the space: Authorization=Basic%20…"),
    Entry("header-encoding", "error", "The header is encoded the wrong way",
          "`+` is no space here, and %2520 is a space encoded twice: the receiver gets another "
          "scheme than `Basic` and answers 401.",
          "The decoded value begins with `Basic+`, `Basic%20` or has %3D in its base64.",
          "Encode once: Authorization=Basic%20<base64>."),
    Entry("header-newline", "error", "A line end inside the header",
          "`base64` breaks lines after 76 characters; a Langfuse key pair is longer. HTTP "
          "clients refuse such a header, or the second half is lost.",
          "A line end inside the value.",
          "Encode with `base64 -w0`, or `printf %s \"$pk:$sk\" | base64 | tr -d '\\n'`."),
    Entry("header-not-basic", "error", "Authorization without `Basic `",
          "Langfuse's OTLP intake takes Basic auth only; raw base64, raw keys and Bearer are "
          "refused.",
          "The Authorization value towards Langfuse does not begin with `Basic `.",
          "Write Authorization=Basic%20<base64 of public:secret>."),
    Entry("header-not-base64", "error", "What follows `Basic ` is no base64",
          "The receiver cannot read user and password and answers 401. Raw `pk:sk` is the "
          "common case; a value that was cut is another.",
          "Decoding fails, or gives no `user:password`.",
          "Encode the pair: `printf %s \"$LANGFUSE_PUBLIC_KEY:$LANGFUSE_SECRET_KEY\" | base64 "
          "-w0`."),
    Entry("header-order", "error", "Secret key before public key",
          "The pair is public:secret. The other way round Langfuse looks for a public key that "
          "does not exist and answers 401.",
          "The decoded pair begins with sk-lf-.",
          "Encode public:secret."),
    Entry("header-empty", "error", "An empty key pair in the header",
          "The variables that the header was made of were not set where it was made.",
          "The decoded pair is `:`, or there is nothing behind `Basic`.",
          "Set the keys before the header is made."),
    Entry("header-missing", "error", "OTLP to Langfuse without Authorization",
          "Langfuse answers 401 and every span is lost.",
          "The OTLP endpoint is Langfuse's and no header is set.",
          "Set OTEL_EXPORTER_OTLP_HEADERS=Authorization=Basic%20<base64 of public:secret>."),
    Entry("header-other-keys", "error", "The header holds other keys than the variables",
          "Spans go to one project, scores, prompts and links to another; or the header is an "
          "old one and is refused.",
          "The decoded pair differs from LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.",
          "Make the header again from the keys. LANGFUSE_BASIC_AUTH in .env: remove its line and "
          "run `otelbridge init`."),
    Entry("keys-swapped", "error", "Public and secret key are exchanged",
          "The secret key would be sent and shown where the public one belongs.",
          "LANGFUSE_PUBLIC_KEY begins with sk-lf- or LANGFUSE_SECRET_KEY with pk-lf-.",
          "Exchange them, and rotate the pair if it was used."),
    Entry("key-prefix", "warning", "A key that Langfuse did not make",
          "Project keys begin with pk-lf- and sk-lf-. Keys of a model provider, of LangSmith or"
          " of an organisation are refused.",
          "The prefix of the key.",
          "Copy both keys from the project's settings."),
    Entry("keys-half", "error", "One key of two",
          "Langfuse needs both: the Collector starts without its branch, or every request is "
          "refused.",
          "Only one of LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY has a value.",
          "Set both."),
    Entry("keys-not-of-init", "error", "Keys of another project than the one made at first start",
          "Langfuse makes its first project with the keys in LANGFUSE_INIT_PROJECT_*; other "
          "keys are those of another project, or of none.",
          "LANGFUSE_PUBLIC_KEY or LANGFUSE_PROJECT_ID differs from its LANGFUSE_INIT_PROJECT_ "
          "form.",
          "Make them equal. A later change of LANGFUSE_INIT_* does not change a project that "
          "exists."),
    Entry("region-mismatch", "error", "Two regions of Langfuse Cloud",
          "Each region has accounts, projects and keys of its own.",
          "The OTLP endpoint, LANGFUSE_HOST and LANGFUSE_PUBLIC_URL name different Cloud hosts.",
          "Use the host at which the project's page opens."),
    Entry("langfuse-host-missing", "note", "Keys without a Langfuse address",
          "https://cloud.langfuse.com, the EU region, is taken. Keys of the US region or of a "
          "server of your own are refused there.",
          "Both keys and neither LANGFUSE_HOST nor LANGFUSE_BASE_URL.",
          "Set LANGFUSE_HOST."),
)  # fmt: skip

ENTRIES: Final[tuple[Entry, ...]] = (*_ENDPOINTS, *_BEHAVIOUR, *_HEADERS)
