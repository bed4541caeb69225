"""What docker-compose.yml promises, asked of what the real compose renders from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import COMPOSE_FILE, PROFILES, ROOT, rendered

GIB = 1 << 30
LIGHT = {"collector", "tempo", "prometheus", "grafana", "gateway", "rag", "llm", "upstream"}
LANGFUSE = {"langfuse-web", "langfuse-worker", "postgres", "clickhouse", "redis", "objects"}
STORES = LANGFUSE - {"langfuse-web", "langfuse-worker"}
OWN = {"collector", "gateway", "rag", "llm", "upstream"}  # built here
#: Services that write where the image put it, and why a read-only root does not do.
WRITES = {
    "grafana": "a secret is copied in",
    "postgres": "a secret is copied in",
    "clickhouse": "a secret is copied in; its start writes users.d",
    "redis": "its password is copied in",
    "objects": "a secret is copied in",
    "langfuse-web": "Next.js writes its cache beside itself",
    "langfuse-worker": "Prisma writes its engine's files beside itself",
    "litellm": "writes its user interface's files beside itself",
}
#: What an image has that a health check may run: by its Dockerfile, or its maintainers' word.
CAN_RUN = {
    "tempo": {"/tempo"},  # distroless: its own binary only
    "loki": {"/usr/bin/loki"},  # the same
    "prometheus": {"promtool", "wget", "sh"},
    "grafana": {"curl", "wget", "sh"},
    "langfuse-web": {"wget", "sh"},
    "langfuse-worker": {"wget", "sh"},
    "postgres": {"pg_isready", "sh"},
    "clickhouse": {"wget", "sh"},
    "redis": {"redis-cli", "sh", "grep"},
    "objects": {"mc", "sh"},
    "litellm": {"python3", "sh"},
}


def services(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return config["services"]


def memory(config: dict[str, Any]) -> int:
    return sum(int(service["mem_limit"]) for service in services(config).values())


def test_profiles_add_up(variables, light, full):
    """Plain `up` starts the light stack, `langfuse` adds Langfuse with its stores, and so on."""
    assert set(services(light)) == LIGHT
    assert set(services(rendered(variables, "langfuse"))) == LIGHT | LANGFUSE
    assert set(services(rendered(variables, "gateway"))) == LIGHT | {"litellm"}
    assert set(services(rendered(variables, "logs"))) == LIGHT | {"loki"}
    assert set(services(full)) == LIGHT | LANGFUSE | {"litellm", "loki"}


def test_profiles_may_come_from_the_environment(variables):
    """COMPOSE_PROFILES in .env is as good as --profile."""
    config = rendered({**variables, "COMPOSE_PROFILES": "langfuse"})
    assert set(services(config)) == LIGHT | LANGFUSE


def test_every_port_is_on_loopback(full):
    """Nothing is published to the network that the machine is in."""
    ports = [(name, p) for name, s in services(full).items() for p in s.get("ports", [])]
    assert {p["host_ip"] for _, p in ports} == {"127.0.0.1"}
    assert sorted(int(p["published"]) for _, p in ports) == [
        3000, 3001, 3200, 4000, 4317, 4318, 8000, 9090,
    ]  # fmt: skip


def test_every_published_port_can_be_another(variables):
    """A port that is taken can be changed by a variable, and only on this machine's side."""
    names = re.findall(r"\$\{(OTELBRIDGE_COMPOSE_\w+_PORT):-\d+\}", COMPOSE_FILE.read_text("utf-8"))
    others = {name: str(20000 + number) for number, name in enumerate(names)}
    config = rendered({**variables, **others}, *PROFILES)
    published = {p["published"] for s in services(config).values() for p in s.get("ports", [])}
    assert published == set(others.values())


def test_stores_are_out_of_reach(full):
    """Langfuse's stores publish nothing and are on a network without a way out, alone."""
    assert full["networks"]["stores"]["internal"] is True
    for name in STORES:
        assert "ports" not in services(full)[name]
        assert set(services(full)[name]["networks"]) == {"stores"}
    with_ports = {name for name, s in services(full).items() if s.get("ports")}
    assert all("edge" in services(full)[name]["networks"] for name in with_ports)
    assert {n for n, s in services(full).items() if "stores" in s["networks"]} == LANGFUSE


def test_every_foreign_image_is_pinned(full):
    """Host, tag and digest; a tag that says no version is allowed only where there is no other."""
    for name in set(services(full)) - OWN:
        image = services(full)[name]["image"]
        found = re.fullmatch(
            r"(docker\.io|ghcr\.io|cgr\.dev)/[\w/-]+:([\w.-]+)@sha256:[0-9a-f]{64}", image
        )
        assert found, f"{name}: {image}"
        assert found[2] != "latest" or found[1] == "cgr.dev", image
        assert found[2] == "latest" or any(map(str.isdigit, found[2])), image


def test_own_images_are_built_not_pulled(light):
    """Their names are on no registry; a name alone would be asked of one."""
    for name in OWN:
        service = services(light)[name]
        assert service["build"]["target"] == ("collector" if name == "collector" else "services")
        assert service["pull_policy"] == "build"


def test_versions_of_own_images_are_those_of_the_sources(light):
    """The tags follow otelbridge's version and the Collector's manifest."""
    version = re.search(
        r'"(.+)"', (ROOT / "otelbridge/_version.py").read_text("utf-8").split("=")[1]
    )
    assert services(light)["rag"]["image"] == f"localhost/otelbridge/services:{version[1]}"
    manifest = yaml.safe_load((ROOT / "collector/builder.yaml").read_text("utf-8"))
    assert (
        services(light)["collector"]["image"]
        == f"localhost/otelbridge/collector:{manifest['dist']['version']}"
    )


def test_memory(variables, light):
    """Light within 3 GiB, with Langfuse within 9; every service has a limit."""
    assert memory(light) <= 3 * GIB
    assert memory(rendered(variables, "langfuse")) <= 9 * GIB


def test_memory_in_the_header_and_the_docs(variables, light):
    """The figures that a reader sees are the sums of the limits."""
    header = COMPOSE_FILE.read_text("utf-8").split("name: otelbridge")[0]
    docs = (ROOT / "docs" / "compose.md").read_text("utf-8")
    base = memory(light)
    for profile, size in [("(none)", base)] + [
        (name, memory(rendered(variables, name)) - base) for name in PROFILES
    ]:
        assert re.search(rf"#   {re.escape(profile)} .* {size / GIB:.1f} GiB", header), profile
        assert re.search(rf"\| `?{re.escape(profile)}`? \|.*\| {size / GIB:.1f} GiB", docs), profile


def test_what_a_go_program_may_take_is_below_its_limit(full):
    """GOMEMLIMIT leaves room under mem_limit: garbage is collected before the kernel kills."""
    seen = 0
    for service in services(full).values():
        limit = (service.get("environment") or {}).get("GOMEMLIMIT")
        if limit:
            seen += 1
            assert int(limit.removesuffix("MiB")) * (1 << 20) < int(service["mem_limit"]) * 0.85
    environment = services(full)["collector"]["environment"]
    mib = int(environment["OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB"])
    assert seen == 3
    assert mib * (1 << 20) < int(services(full)["collector"]["mem_limit"]) * 0.85


def test_hardening(full):
    """No capabilities, no new privileges, no root, capped logs, and a restart after a crash."""
    for name, service in services(full).items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert not service.get("privileged"), name
        assert name in OWN or name == "litellm" or int(service["user"].split(":")[0]) > 0, name
        assert not any(
            v["type"] == "bind" and not v.get("read_only") for v in service.get("volumes", [])
        ), f"{name}: a file of the project is writable"
        assert "docker.sock" not in str(service.get("volumes")), name


def test_read_only_roots(full):
    """All but those with a reason, each of which still has it."""
    assert {n for n, s in services(full).items() if not s.get("read_only")} == set(WRITES)
    for name, reason in WRITES.items():
        copied = bool(services(full)[name].get("secrets") or services(full)[name].get("configs"))
        assert copied == ("copied in" in reason), name


def test_every_health_check_can_run_in_its_image(full):
    """Each asks with a program that the image has."""
    for name, service in services(full).items():
        check = service["healthcheck"]
        assert check["start_interval"] != check["interval"]
        assert check["interval"] == "10s", "Podman has no start_interval"
        if name in OWN:
            continue  # test_image.py runs them
        kind, *command = check["test"]
        assert kind in ("CMD", "CMD-SHELL")
        assert command[0].split()[0] in CAN_RUN[name], name
        assert kind == "CMD" or "sh" in CAN_RUN[name], name
        assert not re.search(r"password|secret|auth", " ".join(command), re.IGNORECASE) or (
            name == "redis"
        ), f"{name}: docker inspect shows the test"


def test_nothing_waits_for_langfuse(full):
    """Tempo, Collector and services start while Langfuse migrates, or without it."""
    for name in set(services(full)) - LANGFUSE:
        assert not set(services(full)[name].get("depends_on", {})) & LANGFUSE, name
    assert (
        "depends_on" not in services(full)["collector"]
    )  # its queues hold what a store cannot take


def test_start_order(full):
    """Services wait for a Collector that answers, Langfuse for four stores that do."""
    for name in ("gateway", "rag", "llm", "litellm"):
        assert services(full)[name]["depends_on"]["collector"]["condition"] == "service_healthy"
    for name in ("langfuse-web", "langfuse-worker"):
        needs = services(full)[name]["depends_on"]
        assert set(needs) >= STORES
        assert all(needs[store]["condition"] == "service_healthy" for store in STORES)


def test_langfuse_does_not_trace_itself(full):
    """Its own spans would come back to it through the Collector, for ever."""
    for name in ("langfuse-web", "langfuse-worker"):
        environment = services(full)[name]["environment"]
        assert {key for key in environment if key.startswith("OTEL_")} == {
            "OTEL_TRACE_SAMPLING_RATIO"
        }
        assert 0 < float(environment["OTEL_TRACE_SAMPLING_RATIO"]) <= 0.001
        assert "collector" not in str(environment.values())


def test_nobody_reports_home(full):
    """Telemetry and update checks are off wherever a switch exists."""
    for name in ("langfuse-web", "langfuse-worker"):
        assert services(full)[name]["environment"]["TELEMETRY_ENABLED"] == "false"
    grafana = services(full)["grafana"]["environment"]
    for key in ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES"):
        assert grafana[f"GF_ANALYTICS_{key}"] == "false"
    assert grafana["GF_NEWS_NEWS_FEED_ENABLED"] == "false"
    tempo, loki, litellm = (
        yaml.safe_load((ROOT / "deploy" / path).read_text("utf-8"))
        for path in ("tempo/tempo.yaml", "loki/loki.yaml", "litellm/config.yaml")
    )
    assert tempo["usage_report"]["reporting_enabled"] is False
    assert loki["analytics"]["reporting_enabled"] is False
    assert litellm["litellm_settings"]["telemetry"] is False


def test_all_in_utc(full):
    """A store in another zone answers queries with empty windows."""
    assert {
        name for name, s in services(full).items() if s["environment"].get("TZ") != "UTC"
    } == set()
    assert services(full)["postgres"]["environment"]["PGTZ"] == "UTC"


def test_langfuse_is_made_with_the_collectors_keys(full):
    """Project and keys exist at once, are those of the Collector, and nobody signs up."""
    web, collector = (services(full)[n]["environment"] for n in ("langfuse-web", "collector"))
    assert web["LANGFUSE_INIT_PROJECT_PUBLIC_KEY"] == collector["LANGFUSE_PUBLIC_KEY"]
    assert web["LANGFUSE_INIT_PROJECT_SECRET_KEY"] == collector["LANGFUSE_SECRET_KEY"]
    assert web["LANGFUSE_INIT_PROJECT_ID"] == collector["LANGFUSE_PROJECT_ID"] == "otelbridge"
    assert web["AUTH_DISABLE_SIGNUP"] == "true"
    worker = services(full)["langfuse-worker"]["environment"]
    assert {key for key in worker if "INIT" in key or key == "NEXTAUTH_SECRET"} == set()


def test_secrets_stay_out_of_what_inspect_shows(variables, full):
    """No secret in an argument, label or health check; stores and Grafana read files."""
    hidden = {value for name, value in variables.items() if len(value) == 64}
    for name, service in services(full).items():
        shown = str(
            [service.get(key) for key in ("command", "entrypoint", "labels", "healthcheck")]
        )
        assert not any(value in shown for value in hidden), name
        if name in STORES | {"grafana", "gateway", "rag", "llm", "upstream", "tempo", "prometheus"}:
            assert not any(value in str(service["environment"]) for value in hidden), name


def test_links_use_the_browsers_address(full):
    """What a person clicks is an address of the machine, never a container's name."""
    grafana = services(full)["grafana"]["environment"]
    link = grafana["OTELBRIDGE_LANGFUSE_TRACE_LINK"].replace("$$", "$")
    assert link == "http://localhost:3000/project/otelbridge/traces/${__value.raw}"
    assert grafana["GF_SERVER_ROOT_URL"] == "http://localhost:3001"
    collector = services(full)["collector"]["environment"]
    assert collector["LANGFUSE_PUBLIC_URL"] == "http://localhost:3000"
    assert collector["OTELBRIDGE_GRAFANA_URL"] == "http://localhost:3001"
    assert services(full)["langfuse-web"]["environment"]["NEXTAUTH_URL"] == "http://localhost:3000"


def test_without_a_project_id_there_is_no_link(variables):
    """A link that leads nowhere is worse than none."""
    config = rendered({**variables, "LANGFUSE_PROJECT_ID": ""})
    assert services(config)["grafana"]["environment"]["OTELBRIDGE_LANGFUSE_TRACE_LINK"] == ""


def test_every_mounted_file_exists(variables, full):
    """Docker would make an empty directory in the place of a missing file."""
    for config in (full, rendered({**variables, "OTELBRIDGE_COMPOSE_LOGS": "otlp"}, *PROFILES)):
        for name, service in services(config).items():
            for volume in service.get("volumes", []):
                if volume["type"] == "bind":
                    assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"


def test_every_volume_is_used_and_every_store_has_one(full):
    """Data outlives a container; no volume is left over."""
    used = [
        (volume["source"], name)
        for name, service in services(full).items()
        for volume in service.get("volumes", [])
        if volume["type"] == "volume"
    ]
    assert sorted(source for source, _ in used) == sorted(full["volumes"])
    assert {name for _, name in used} >= STORES | {
        "tempo",
        "prometheus",
        "grafana",
        "collector",
        "loki",
    }


@pytest.mark.parametrize("on", [False, True], ids=["without logs", "with logs"])
def test_logs_change_three_places_at_once(variables, on):
    """One variable: services send logs, the Collector passes them on, Grafana knows Loki."""
    extra = {"OTELBRIDGE_COMPOSE_LOGS": "otlp"} if on else {}
    config = rendered({**variables, **extra}, "logs")
    sources = [
        v["source"] for v in services(config)["grafana"]["volumes"] if "datasources" in v["source"]
    ]
    want = "grafana/overlays/loki/datasources" if on else "grafana/provisioning/datasources"
    assert [Path(source) for source in sources] == [ROOT / want]
    assert any("logs.yaml" in part for part in services(config)["collector"]["command"]) is on
    assert services(config)["rag"]["environment"]["OTEL_LOGS_EXPORTER"] == (
        "otlp" if on else "none"
    )


def test_collector_variables_are_documented_ones(full):
    """Each OTELBRIDGE_ variable that compose gives the Collector is in docs/collector.md."""
    table = (ROOT / "docs" / "collector.md").read_text("utf-8")
    given = services(full)["collector"]["environment"]
    assert [name for name in given if name != "TZ" and f"| `{name}` |" not in table] == []
