"""What the checks in node stand on: exact versions, checksums, no registry's name, honest skips."""

from __future__ import annotations

import json
import re

import pytest

from tests.grafana import node_tools


def test_versions_are_exact_and_every_package_has_a_checksum():
    """package.json pins; the lock has a checksum for each package and names no registry."""
    wanted = json.loads((node_tools.HERE / "package.json").read_text("utf-8"))["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    lock = json.loads((node_tools.HERE / "package-lock.json").read_text("utf-8"))["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for name, package in lock.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_missing_node_is_a_reason_to_skip(monkeypatch, tmp_path):
    """Without node on the path the reason names it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "node is not installed" in node_tools.unusable_node()


def test_failed_installation_is_told(monkeypatch, tmp_path):
    """What npm refuses gives an error with npm's own words, and leaves nothing behind."""
    if node_tools.unusable_node():
        pytest.skip(node_tools.unusable_node())
    for name in ("package.json", "package-lock.json", ".npmrc"):
        (tmp_path / name).write_text("{", "utf-8")
    cache = tmp_path / "cache"
    with pytest.raises(node_tools.InstallError, match="npm error code"):
        node_tools.install(cache, tmp_path)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("ci", [True, False])
def test_failed_installation_fails_in_ci_and_skips_elsewhere(monkeypatch, ci):
    """Under CI the checks may not be skipped for want of packages."""

    def refused(*_):
        raise node_tools.InstallError("npm ci failed: offline")

    monkeypatch.setattr(node_tools, "install", refused)
    monkeypatch.setattr(node_tools, "unusable_node", lambda: "")
    monkeypatch.setenv("CI", "1") if ci else monkeypatch.delenv("CI", raising=False)
    expected = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(expected, match="offline"):
        node_tools.found(node_tools.state())
