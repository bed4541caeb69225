"""Which hosts may see trace context: a pure rule over the text of a URL's host.

`propagation` and the HTTP client integrations ask it before `traceparent`, `tracestate` and
`baggage` leave the process. The text decides, never its resolution: a name is not looked up, so a
lookup can neither delay a call nor be rebound. Patterns come from `OTELBRIDGE_TRUSTED_HOSTS`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: RFC 1918 and RFC 4193. Link-local addresses are left out: cloud metadata services live there.
_PRIVATE: Final[tuple[IpNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_NAME_PATTERNS: Final = ("*.local", "*.internal", "*.svc", "*.cluster.local", "*.localhost")
#: The defaults by name, so that `!private` can switch one of them off.
DEFAULT_GROUPS: Final = ("loopback", "private", "single-label", *_NAME_PATTERNS)

# All-digit and 0x forms are IPv4 addresses in disguise (inet_aton), not names.
_SINGLE_LABEL: Final = re.compile(r"^(?!0x[0-9a-f]*$)(?=[a-z0-9_-]*[a-z])[a-z0-9_]([a-z0-9_-]*)$")
_TWO_LABELS: Final = re.compile(r"^[a-z]([a-z0-9-]*)\.[a-z]([a-z0-9-]*)$")
#: In a cluster `name.namespace` is trusted, unless the namespace reads like a public domain.
_PUBLIC_SUFFIXES: Final = frozenset(
    ("ai", "app", "biz", "cloud", "co", "com", "dev", "gov", "info", "io", "net", "org", "tech")
)


def host_of(netloc: str) -> str:
    """The bare host of `host`, `host:port`, `user@host`, `[v6]:port`: lower case, no final dot."""
    text = netloc.rsplit("@", 1)[-1].strip().lower()
    if text.startswith("["):
        return text[1:].split("]", 1)[0].split("%", 1)[0]
    if text.count(":") == 1:
        text = text.split(":", 1)[0]
    return text.rstrip(".")


def _address(host: str) -> IpAddress | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network(pattern: str) -> IpNetwork | None:
    try:
        return ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return None


def _in_network(address: IpAddress, network: IpNetwork) -> bool:
    return address.version == network.version and address in network


@dataclass(frozen=True, slots=True)
class TrustedHosts:
    """The rule: denied patterns first, then added ones, then the defaults that were not removed."""

    patterns: tuple[str, ...] = ()
    """As given: `*`, host names, `*.suffix`, addresses, networks, group names; `!x` removes."""
    in_cluster: bool = False
    """Kubernetes: `name.namespace` counts as trusted too."""
    _added: tuple[str, ...] = field(init=False, repr=False, default=())
    _removed: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        cleaned = [pattern.strip().lower() for pattern in self.patterns if pattern.strip()]
        added = tuple(p for p in cleaned if not p.startswith("!"))
        removed = tuple(p[1:].strip() for p in cleaned if p.startswith("!"))
        object.__setattr__(self, "_added", added)
        object.__setattr__(self, "_removed", removed)

    def trusts(self, netloc: str) -> bool:
        """Whether this host (a URL's authority, with or without port) may see trace context."""
        return _decide(self, host_of(netloc))


def _matches(host: str, address: IpAddress | None, patterns: Iterable[str], cluster: bool) -> bool:
    for pattern in patterns:
        if pattern == "*":
            return True
        if address is not None:
            network = _network(pattern)
            if network is not None and _in_network(address, network):
                return True
        if pattern in DEFAULT_GROUPS:
            if _in_group(pattern, host, address, cluster):
                return True
        elif fnmatchcase(host, pattern):
            return True
    return False


def _in_group(group: str, host: str, address: IpAddress | None, cluster: bool) -> bool:
    if group == "loopback":
        return host == "localhost" or (address is not None and address.is_loopback)
    if group == "private":
        return address is not None and any(_in_network(address, net) for net in _PRIVATE)
    if group == "single-label":
        return (
            address is None and host != "localhost" and _SINGLE_LABEL.match(host) is not None
        ) or (cluster and _is_cluster_name(host))
    return address is None and fnmatchcase(host, group)


def _is_cluster_name(host: str) -> bool:
    return (
        _TWO_LABELS.match(host) is not None and host.rsplit(".", 1)[-1] not in _PUBLIC_SUFFIXES
    )


@lru_cache(maxsize=1024)
def _decide(rule: TrustedHosts, host: str) -> bool:
    if not host:
        return False
    address = _address(host)
    if _matches(host, address, rule._removed, rule.in_cluster):
        return False
    return _matches(host, address, rule._added, rule.in_cluster) or _matches(
        host, address, DEFAULT_GROUPS, rule.in_cluster
    )
