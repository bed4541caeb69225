"""Grafana dashboards as Python; `python -m grafana.dashboards_src` writes their JSON."""
