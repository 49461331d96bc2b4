"""The names that a page answers to: a browser led here under another one is turned away.

A page of some stranger can make a browser ask this machine: by a form or a script (the request's
``Origin`` is the stranger's), or after its own name has been made to point here (``Host`` is).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Hosts:
    """The names that a page is served under, without their ports, which proxies change.

    Args:
        address: What the server listens on. On all addresses (0.0.0.0, ::) any address is a name
            too: nobody can make a stranger's page have one.
        others: More names.
    """

    def __init__(self, address: str, others: Iterable[str] = ()) -> None:
        self.any_address = _is_any(address)
        self.others = {_bare(name) for name in others}
        self.names = {*_LOCAL, _bare(address), *self.others}
        if self.any_address:
            own = socket.gethostname().lower()
            self.names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}

    def add(self, name: str) -> None:
        """Answer to one more name."""
        self.others.add(_bare(name))
        self.names.add(_bare(name))

    def allow(self, host: str) -> bool:
        """Return whether a ``Host`` header is one of these names.

        Example:
            >>> [Hosts("127.0.0.1").allow(host) for host in ("localhost:7860", "evil.example")]
            [True, False]
            >>> Hosts("0.0.0.0").allow("10.0.0.9:7860")
            True
        """
        name = _name(host)
        return name is not None and (name in self.names or (self.any_address and _is_address(name)))

    def own_origin(self, origin: str, hosts: Iterable[str]) -> bool:
        """Return whether an ``Origin`` header is that of the page itself.

        Args:
            origin: The header; "null" is a stranger's.
            hosts: The hosts that the request names, with their ports.

        Example:
            >>> hosts = Hosts("127.0.0.1")
            >>> hosts.own_origin("http://localhost:7860", ["localhost:7860"])
            True
            >>> hosts.own_origin("http://localhost:8888", ["localhost:7860"])
            False
        """
        scheme, colon, rest = origin.partition("://")
        if not colon or scheme not in _DEFAULT_PORTS or _name(rest) is None:
            return False
        port = _DEFAULT_PORTS[scheme]
        same = rest.lower().removesuffix(port)
        if any(same == host.lower().removesuffix(port) for host in hosts):
            return True
        return _name(rest) in self.others  # behind a proxy that names this machine in `Host`


def host_of(url: str) -> str:
    """Return the host that a URL names."""
    return urlsplit(url).hostname or ""


def _name(host: str) -> str | None:
    """Return the name in a ``Host`` header; None if it is no such header."""
    found = _HOST.fullmatch(host)
    return _bare(found["name"]) if found else None


def _bare(name: str) -> str:
    return name.lower().removeprefix("[").removesuffix("]")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_any(address: str) -> bool:
    return _is_address(_bare(address)) and ipaddress.ip_address(_bare(address)).is_unspecified
