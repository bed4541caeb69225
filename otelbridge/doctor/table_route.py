"""Explanations of the codes of the route: Collector, its configuration file, clock and canary.

Data only. `table` gathers this and the other tables; the functions that find these are in
`collector_checks`, `collector_config`, `clock` and `canary`.
"""

from __future__ import annotations

from typing import Final

from otelbridge.doctor.findings import Entry

_COLLECTOR: Final = (
    Entry("collector-ok", "ok", "The Collector is healthy",
          "Its health check answers, both branches are there, queues have room.",
          "Health check and own metrics of the Collector."),
    Entry("collector-not-visible", "note", "No Collector shows itself",
          "Neither the health check (port 13133) nor the own metrics (port 8888) can be reached "
          "from here. In containers they often are not published, and `otelbridge local` has "
          "none.",
          "Both ports on the host of the OTLP endpoint, or where "
          "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT and OTELBRIDGE_COLLECTOR_METRICS_HOST and _PORT "
          "say.", "Publish port 8888 on loopback if more is to be told."),
    Entry("collector-other", "note", "Metrics of another Collector",
          "A Collector shows itself at the usual ports, and spans of this process do not pass "
          "it: another one is behind the endpoint, or one of several.",
          "The counter of received spans before and after the canary.",
          "Set OTELBRIDGE_COLLECTOR_METRICS_HOST and _PORT to those of the Collector behind the "
          "endpoint."),
    Entry("collector-unhealthy", "error", "The Collector is not ready",
          "It starts, stops, or cannot open its queue.",
          "The health check answers with another status than 200.", "Read its log."),
    Entry("collector-not-ours", "warning", "Another configuration than otelbridge's",
          "Masking, content policy and LLM view are made by otelbridge's processors. Without "
          "them Tempo stores prompts and Langfuse gets every span.",
          "The Collector's own metrics: neither its service name nor exporters nor processors "
          "are those of collector/config.yaml.",
          "Run collector/config.yaml, or check that OTEL_EXPORTER_OTLP_ENDPOINT is the Collector "
          "meant."),
    Entry("collector-branch-changed", "warning", "A branch without its processors",
          "otelbridge's exporters are there and the processors in front of them are not: "
          "Langfuse gets every span, or Tempo the prompts.",
          "The Collector's own metrics once spans have passed, or the page /debug/pipelinez of "
          "the overlay `zpages`.",
          "Use collector/config.yaml; a file of your own that names `processors` replaces the "
          "whole list."),
    Entry("collector-no-tempo", "warning", "No exporter for Tempo",
          "The Collector has no exporter whose name holds `tempo`.",
          "The exporters in its own metrics.", "Use collector/config.yaml."),
    Entry("collector-no-langfuse", "error", "No exporter for Langfuse",
          "The Collector runs without the branch to Langfuse; spans reach Tempo only. `run.sh` "
          "and compose choose that when one of the keys is missing in the Collector's "
          "environment.", "The exporters in its own metrics, or the configuration file.",
          "Give the Collector LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY and start it again "
          "with collector/config.yaml."),
    Entry("collector-queue-full", "warning", "A queue is nearly full",
          "The backend is away or too slow. When the queue is full the receiver refuses, and "
          "services send again.", "queue_size is at least 0.8 of queue_capacity.",
          "Look at that backend; the log names the status it answers with."),
    Entry("collector-enqueue-failed", "warning", "Spans found no room in a queue",
          "They were refused or lost, depending on the overflow policy.",
          "otelcol_exporter_enqueue_failed_spans above 0.",
          "Find out why the backend was away; raise the queue size for longer outages."),
    Entry("collector-send-failed", "warning", "The Collector gave spans up",
          "A final refusal (400, 401, 403, 404, 413, 500) or retried for too long: those spans "
          "are lost for that store. Counted since the Collector started: the canary tells "
          "whether it is still so.",
          "otelcol_exporter_send_failed_spans above 1 % of what was tried.",
          "Read `Dropping data` in the Collector's log: 401 is the keys in the Collector's "
          "environment, 404 the address."),
    Entry("collector-refused", "warning", "The Collector refused spans",
          "Memory limit or a full queue; services keep the spans and send again.",
          "otelcol_receiver_refused_spans above 1 % of those accepted; below it a note.",
          "More memory (OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB), or a second Collector."),
    Entry("duplicate-langfuse-route", "error", "Two ways to Langfuse",
          "Every LLM span arrives twice; counts, tokens and costs double until Langfuse merges "
          "them, if it does.",
          "OTELBRIDGE_EXPORT=direct while the Collector behind the endpoint has an exporter for "
          "Langfuse as well, or a Collector with two of them.",
          "With a Collector set OTELBRIDGE_EXPORT=collector."),
)  # fmt: skip

_CONFIG: Final = (
    Entry("collector-config-ok", "ok", "The Collector's configuration file is good",
          "Both branches, their login and the LLM view are there.", "--collector-config FILE."),
    Entry("collector-config-unread", "note", "The configuration file was not read",
          "PyYAML is not installed.", "--collector-config FILE.", "pip install pyyaml"),
    Entry("collector-config-bad", "error", "The file is no Collector configuration",
          "The Collector would not start with it.",
          "It cannot be read, is no YAML, or has no exporters or pipelines.",
          "Check it with `otelcol validate --config FILE`."),
    Entry("collector-langfuse-grpc", "error", "The Collector sends gRPC to Langfuse",
          "Langfuse takes OTLP over HTTP only; `otlp` and `otlp_grpc` are gRPC exporters.",
          "The kind of the exporter in the configuration file.",
          "Use otlp_http with endpoint https://<host>/api/public/otel."),
    Entry("collector-langfuse-path", "error", "The wrong path to Langfuse in the Collector",
          "The exporter adds /v1/traces to `endpoint`, so that ends with /api/public/otel; "
          "`traces_endpoint` is used as it stands. Otherwise Langfuse answers 404 or 405.",
          "The endpoint in the configuration file.", "endpoint: https://<host>/api/public/otel"),
    Entry("collector-langfuse-compression", "error", "A compression that Langfuse does not undo",
          "Langfuse undoes gzip only; everything else is a parse error (400) and the batch is "
          "dropped.", "`compression` of the exporter in the configuration file.",
          "compression: gzip"),
    Entry("collector-langfuse-no-auth", "error", "The Collector logs in to Langfuse with nothing",
          "No Authorization, or one made of variables that have no value: 401, every span is "
          "lost.", "`headers` and `auth` of the exporter, filled in from this environment.",
          "Set the variables where the Collector runs; collector/config.yaml needs "
          "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY."),
    Entry("collector-unfiltered", "warning", "Langfuse gets every span",
          "HTTP, database and cache spans become observations: clutter, and billed units.",
          "No filter on gen_ai attributes or otelbridge's marks on the way to the exporter.",
          "Use collector/layers/langfuse.yaml."),
    Entry("collector-orphans", "error", "A filter that leaves orphans",
          "Spans without LLM work are dropped, and their children keep a parent that Langfuse "
          "never gets: no root, no trace name, no input and output.",
          "A filter on the way to Langfuse and no processor that sets the parent from "
          "otelbridge.llm.parent.",
          "Use collector/layers/langfuse.yaml, which gives spans their next kept ancestor."),
    Entry("collector-content-to-tempo", "warning", "Prompts and answers go to Tempo",
          "Whoever may search traces reads them, and Tempo cuts long values.",
          "No processor on the way to the Tempo exporter takes gen_ai attributes away.",
          "Use collector/layers/tempo.yaml."),
)  # fmt: skip

_CLOCK: Final = (
    Entry("clock-ok", "ok", "Clocks agree", "Within 5 s.", "Date headers of the servers."),
    Entry("clock-unknown", "note", "No server told its time", "Clocks were not compared.",
          "No answer had a Date header."),
    Entry("clock-skew", "warning", "Clocks differ",
          "Spans carry the clock of the service, searches the one of the store: new traces seem "
          "to be missing or to lie in the future. An error above 60 s.",
          "The Date header of an answer differs by more than 5 s from the local clock.",
          "Synchronise both machines (NTP); for containers, the host or the virtual machine."),
)  # fmt: skip

_REFUSED = (
    "Keys or address in the Collector's environment are wrong, or the store refuses the data."
)
_WAITING = (
    "The Collector retries and keeps the spans. The address that counts is the one in its own "
    "environment."
)
_ELSEWHERE = "Two stores or projects: the Collector's, and the one that is looked at here."
_COUNTERS = "The Collector's counters before and after the canary"

_CANARY: Final = (
    Entry("canary-good", "ok", "The canary arrived as it was made",
          "Same trace id, spans and parents in every store that could be read, text where it "
          "belongs.",
          "A made-up trace, sent as this process would send its own, read back by its id."),
    Entry("canary-skipped", "note", "No canary was sent",
          "The settings send nothing, or the endpoint is known to be broken.", "Earlier checks.",
          "See to the other findings first."),
    Entry("canary-not-read", "note", "The canary was not read back from a store",
          "Its address or keys are missing here, or it is known not to answer.", "Earlier checks.",
          "Set OTELBRIDGE_TEMPO_URL; LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY."),
    Entry("canary-not-sent", "error", "The canary could not be delivered",
          "Spans of this process do not leave it.", "The exporter's answer and log.",
          "Check endpoint, protocol, headers and certificate."),
    Entry("ca-bundle-wins", "error", "REQUESTS_CA_BUNDLE wins over the exporter's certificate",
          "OTELBRIDGE_EXPORTER=stock is built on requests, which takes REQUESTS_CA_BUNDLE or "
          "CURL_CA_BUNDLE from the environment before the certificate of "
          "OTEL_EXPORTER_OTLP_CERTIFICATE: the handshake fails although the right authority is "
          "given. The exporter of otelbridge's own reads neither.",
          "Delivery by the stock exporter fails at the certificate, both variables are set, and "
          "the file of OTEL_EXPORTER_OTLP_CERTIFICATE is good.",
          "Leave OTELBRIDGE_EXPORTER at bridge, add the authority to the bundle that "
          "REQUESTS_CA_BUNDLE names, or unset REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE for this "
          "service."),
    Entry("canary-not-in-tempo", "error", "The canary is not in Tempo",
          "It was accepted and does not show up under its trace id.",
          "GET /api/traces/{id} until the deadline (30 s).",
          "Look into the Collector's log for the exporter to Tempo, and check that "
          "OTELBRIDGE_TEMPO_URL is the Tempo that gets the spans."),
    Entry("canary-tempo-refused", "error", "Tempo refuses what the Collector sends", _REFUSED,
          _COUNTERS, "Read `Dropping data` in its log; check OTELBRIDGE_TEMPO_OTLP_ENDPOINT."),
    Entry("canary-tempo-waiting", "error", "The Collector cannot reach Tempo", _WAITING, _COUNTERS,
          "Set OTELBRIDGE_TEMPO_OTLP_ENDPOINT (host:4317 of Tempo's OTLP receiver, gRPC) where "
          "the Collector runs."),
    Entry("canary-tempo-elsewhere", "error", "The Collector sends to another Tempo", _ELSEWHERE,
          _COUNTERS,
          "Make OTELBRIDGE_TEMPO_URL here and OTELBRIDGE_TEMPO_OTLP_ENDPOINT of the Collector "
          "the same Tempo."),
    Entry("canary-tempo-dropped", "error", "The Collector drops spans for Tempo",
          "Sampling or a filter takes them away.", _COUNTERS,
          "Look at the processors of the branch to Tempo."),
    Entry("canary-not-in-langfuse", "error", "The canary is not in Langfuse",
          "It was accepted and does not show up under its trace id.",
          "GET /api/public/v2/observations, or /api/public/traces/{id} on older servers, until "
          "the deadline (30 s).",
          "Check that the keys here and in the Collector are those of one project, and look into "
          "the logs of the Collector and of Langfuse's worker."),
    Entry("canary-langfuse-refused", "error", "Langfuse refuses what the Collector sends", _REFUSED,
          _COUNTERS,
          "Give the Collector the keys and the host of this project and start it again; its log "
          "says 401 (keys) or 404 (address)."),
    Entry("canary-langfuse-waiting", "error", "The Collector cannot reach Langfuse", _WAITING,
          _COUNTERS,
          "Set LANGFUSE_HOST where the Collector runs to an address that works from there (in "
          "compose http://langfuse-web:3000)."),
    Entry("canary-langfuse-elsewhere", "error", "The Collector sends to another project",
          _ELSEWHERE, _COUNTERS,
          "Make LANGFUSE_HOST and the keys the same here and in the Collector."),
    Entry("canary-langfuse-dropped", "error", "The Collector drops spans for Langfuse",
          "collector/config.yaml does so when the Collector has no LANGFUSE_PUBLIC_KEY; sampling "
          "and other filters may.", _COUNTERS, "Give the Collector both keys and start it again."),
    Entry("canary-spans-missing", "error", "A part of the canary is missing",
          "Some spans came, others did not.", "Span ids of what was made and of what is stored.",
          "Look for a filter, a sampler or a limit on the way to that store."),
    Entry("canary-orphans", "error", "Spans without their parent",
          "A filter dropped the parent and left the child: no root, no trace name, no input and "
          "output.", "Parent ids that are not in the trace.",
          "Use otelbridge's Collector configuration, which gives spans their next kept ancestor."),
    Entry("canary-parents-differ", "error", "Another tree than was made",
          "Something on the way rewrites parents.",
          "Parent ids of what was made and of what is stored.",
          "Compare the Collector's configuration with collector/config.yaml "
          "(--collector-config)."),
    Entry("canary-duplicates", "error", "Spans are there more than once",
          "Two exporters or two Collectors send to the same store.",
          "One span id, or one name of the canary, more than once.",
          "Keep one way: OTELBRIDGE_EXPORT=collector with one Collector, and no callback or SDK "
          "of Langfuse's that exports as well."),
    Entry("canary-unfiltered", "warning", "Langfuse gets spans that are no LLM work",
          "The LLM view is not applied on the way; observations and billed units multiply.",
          "The canary's plain step is in Langfuse.",
          "Send through otelbridge's Collector configuration, or use OTELBRIDGE_EXPORT=direct."),
    Entry("canary-content-in-tempo", "error", "Message text in Tempo",
          "Prompts and answers are readable for everybody who may search traces.",
          "The canary's text in Tempo's answer.",
          "Send through otelbridge's Collector configuration, use OTELBRIDGE_EXPORT=direct, or "
          "record no content (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=NO_CONTENT)."),
    Entry("canary-content-missing", "warning", "Message text is missing in Langfuse",
          "Content is recorded here and lost on the way.",
          "The canary's text is not in Langfuse's answer.",
          "Look for a processor on the way to Langfuse that removes gen_ai attributes."),
    Entry("canary-empty-root", "warning", "The root has no input or output",
          "Langfuse shows a trace's input and output from its root; lists and evaluations stay "
          "empty.", "Input and output of the canary's root in Langfuse.",
          "Let otelbridge's processor run in the service that begins the trace."),
    Entry("canary-other-project", "error", "Links lead to another project",
          "LANGFUSE_PROJECT_ID is not the project of the keys: links open a page that does not "
          "exist.", "The project that the canary's observations name.",
          "Set LANGFUSE_PROJECT_ID to the id of the keys' project."),
)  # fmt: skip

ENTRIES: Final[tuple[Entry, ...]] = (*_COLLECTOR, *_CONFIG, *_CLOCK, *_CANARY)
