"""Where alerts go: contact points, routes by severity, a mute time and the messages.

Grafana expands environment variables in these files, the templates included: no dollar sign but
those of the two variables. Empty variables would stop Grafana's start, so compose gives defaults.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.alerts_src.text import dumped

EMAIL, SLACK = "$ALERT_EMAIL_TO", "$SLACK_WEBHOOK_URL"
#: Valid for Grafana, and no mail and no request gets anywhere: names under .invalid do not resolve.
INERT_DEFAULTS: Final = {
    "ALERT_EMAIL_TO": "alerts@otelbridge.invalid",
    "SLACK_WEBHOOK_URL": "https://slack.otelbridge.invalid/not-set",
}
PAGE, CHANNEL, DIGEST = "otelbridge-page", "otelbridge-slack", "otelbridge-email"
WEEKEND: Final = "otelbridge-weekend"

TEMPLATE: Final = """\
{{ define "otelbridge.title" -}}
[{{ .Status | toUpper }}{{ if eq .Status "firing" }}: {{ .Alerts.Firing | len }}{{ end }}]\
 {{ .CommonLabels.severity }} {{ .GroupLabels.alertname }}
{{- end }}
{{ define "otelbridge.message" -}}
{{ range .Alerts }}
{{ .Status | toUpper }} {{ .Annotations.summary }}
{{ .Annotations.description }}
Since: {{ .StartsAt.Format "2006-01-02 15:04:05 MST" }}
{{- if .PanelURL }}
Panel: {{ .PanelURL }}
{{- else if .DashboardURL }}
Dashboard: {{ .DashboardURL }}
{{- end }}
{{- if .Annotations.runbook_url }}
Runbook: {{ .Annotations.runbook_url }}
{{- end }}
{{- if .SilenceURL }}
Silence: {{ .SilenceURL }}
{{- end }}
{{ end }}
{{- end }}
"""


def _email(uid: str) -> dict[str, Any]:
    settings = {
        "addresses": EMAIL,
        "singleEmail": True,
        "subject": '{{ template "otelbridge.title" . }}',
        "message": '{{ template "otelbridge.message" . }}',
    }
    return {"uid": uid, "type": "email", "settings": settings, "disableResolveMessage": False}


def _slack(uid: str) -> dict[str, Any]:
    settings = {
        "url": SLACK,
        "title": '{{ template "otelbridge.title" . }}',
        "text": '{{ template "otelbridge.message" . }}',
    }
    return {"uid": uid, "type": "slack", "settings": settings, "disableResolveMessage": False}


def contact_points_file() -> str:
    """`contact-points.yaml`."""
    points = (
        (PAGE, [_email("otelbridge-page-email"), _slack("otelbridge-page-slack")]),
        (CHANNEL, [_slack("otelbridge-slack")]),
        (DIGEST, [_email("otelbridge-email")]),
    )
    content = [{"orgId": 1, "name": name, "receivers": receivers} for name, receivers in points]
    defaults = "\n".join(f"  {name}: {value}" for name, value in INERT_DEFAULTS.items())
    return dumped(
        {"apiVersion": 1, "contactPoints": content},
        "ALERT_EMAIL_TO: addresses with ; between them (sent by Grafana's GF_SMTP_*).\n"
        "SLACK_WEBHOOK_URL: an incoming webhook. Both must be set and not empty, else alerting's\n"
        "provisioning fails and Grafana does not start. Valid, and sent nowhere:\n" + defaults,
    )


def policies_file() -> str:
    """`policies.yaml`."""
    timing = ("group_wait", "group_interval", "repeat_interval")

    def route(severity: str, receiver: str, *times: str, **more: Any) -> dict[str, Any]:
        matchers = [["team", "=", "otelbridge"], ["severity", "=", severity]]
        form: dict[str, Any] = {"receiver": receiver, "object_matchers": matchers}
        return form | dict(zip(timing, times, strict=True)) | more

    routes = [
        route("critical", PAGE, "30s", "5m", "1h"),
        route("warning", CHANNEL, "1m", "10m", "12h"),
        route("info", DIGEST, "1h", "24h", "168h", mute_time_intervals=[WEEKEND]),
    ]
    root: dict[str, Any] = {
        "orgId": 1,
        "receiver": DIGEST,
        "group_by": ["grafana_folder", "alertname"],
        **dict(zip(timing, ("1m", "10m", "12h"), strict=True)),
        "routes": routes,
    }
    weekend = {"weekdays": ["saturday", "sunday"]}
    mute = {"orgId": 1, "name": WEEKEND, "time_intervals": [weekend]}
    return dumped(
        {"apiVersion": 1, "policies": [root], "muteTimes": [mute]},
        "Critical: e-mail and Slack at once. Warning: Slack. Info: one e-mail a day, on weekdays.\n"
        "This file replaces the WHOLE policy tree of the organisation: in a Grafana that has one,\n"
        "leave the file out and add routes on the labels team and severity there.",
    )


def templates_file() -> str:
    """`templates.yaml`: title and message, with links to panel, runbook and silence."""
    template = {"orgId": 1, "name": "otelbridge", "template": TEMPLATE}
    return dumped(
        {"apiVersion": 1, "templates": [template]},
        "What e-mails and Slack messages say. Grafana expands variables here: no dollar sign.",
    )
