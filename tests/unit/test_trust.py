"""The trusted-host rule, host by host."""

from __future__ import annotations

import pytest

from otelbridge.trust import TrustedHosts, host_of


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "127.0.0.1:8000", "[::1]:80", "10.1.2.3", "172.31.0.1", "192.168.1.1",
        "[fd00::1]", "rag", "rag:8080", "rag_service", "3scale", "api.local", "a.b.internal",
        "rag.prod.svc", "rag.prod.svc.cluster.local", "RAG.PROD.SVC.", "[::ffff:10.0.0.1]",
        "user:pw@rag:80", "app.localhost",
    ],
)  # fmt: skip
def test_hosts_inside_are_trusted_by_default(host: str) -> None:
    """Loopback, private addresses, single labels and internal suffixes get context."""
    assert TrustedHosts().trusts(host)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com", "example.com:443", "8.8.8.8", "172.32.0.1", "169.254.169.254",
        "[2001:db8::1]", "[::ffff:8.8.8.8]", "134744072", "0x08080808", "0x7f000001",
        "internal.example.com", "svc.evil.com", "local", "", ".", "evil.com#rag", "rag.prod",
        "127.0.0.1.evil.com", "notlocal.locals", "exa mple", "ünï",
    ],
)  # fmt: skip
def test_hosts_outside_are_not(host: str) -> None:
    """Public names and addresses, disguised ones among them, get nothing."""
    if host == "local":  # a single label like any other
        assert TrustedHosts().trusts(host)
    else:
        assert not TrustedHosts().trusts(host)


@pytest.mark.parametrize(
    ("patterns", "host", "expected"),
    [
        (("*",), "api.openai.com", True),
        (("*", "!api.openai.com"), "api.openai.com", False),
        (("llm.example.com",), "llm.example.com:8443", True),
        (("*.example.com",), "a.b.example.com", True),
        (("*.example.com",), "example.com.evil.com", False),
        (("8.8.8.0/24",), "8.8.8.8", True),
        (("!127.0.0.2",), "127.0.0.2", False),
        (("!127.0.0.2",), "127.0.0.1", True),
        (("!private",), "10.0.0.1", False),
        (("!single-label",), "rag", False),
        (("!single-label",), "localhost", True),
        (("!*.internal",), "a.internal", False),
        ((" Rag.Example.COM ", ""), "rag.example.com", True),
    ],
)
def test_patterns_add_and_remove(patterns: tuple[str, ...], host: str, expected: bool) -> None:
    """A pattern adds, `!pattern` removes, and removal wins."""
    assert TrustedHosts(patterns).trusts(host) is expected


def test_in_a_cluster_name_dot_namespace_is_trusted() -> None:
    """`rag.prod` is a Kubernetes name in a cluster and an unknown name elsewhere."""
    assert TrustedHosts(in_cluster=True).trusts("rag.prod:8080")
    assert not TrustedHosts(in_cluster=True).trusts("openai.com")
    assert not TrustedHosts(in_cluster=True).trusts("api.openai.prod")


@pytest.mark.parametrize(
    ("netloc", "host"),
    [("A.b:1", "a.b"), ("[::1]:9", "::1"), ("u:p@H", "h"), ("fe80::1", "fe80::1"), ("h.", "h")],
)
def test_host_of_strips_everything_but_the_host(netloc: str, host: str) -> None:
    """Port, user information, brackets, case and the final dot do not matter."""
    assert host_of(netloc) == host
