"""The alerts as Python, each once; `python -m grafana.alerts_src` writes every form of them.

Forms: Prometheus rule file, Grafana's provisioning, docs/runbooks.md. `rule.py` says what a rule
is; `llm_rules.py`, `cost_rules.py` and `bridge_rules.py` hold the rules; `prometheus_form.py`,
`grafana_form.py`, `notifications.py` and `runbooks.py` write. Panels are those that
grafana/dashboards_src/ declares.
"""
