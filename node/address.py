"""Addresses: a host and a port, where to listen or where to reach somebody."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

HOST_CHARACTERS_MAX = 253
"""Of a name in the DNS."""

_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all interfaces: good to listen on, unknown to others."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """The address in "host:port" or "[v6]:port". Raises ValueError, whose text continues a sentence."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise ValueError("must be host:port, such as 127.0.0.1:7400")
    return Address(host, int(port))


def check_reachable(text: str) -> Address:
    """As `parse_address`, for an address that others are told. Raises ValueError."""
    address = parse_address(text)
    if len(address.host) > HOST_CHARACTERS_MAX or not (_HOST.fullmatch(address.host) or _is_ipv6(address.host)):
        raise ValueError("must be host:port, such as 10.0.0.4:7401, with the name or the number of a host")
    if address.port == 0:
        raise ValueError("must have a port from 1 to 65535")
    if address.is_wildcard:
        raise ValueError(f"must be an address that others can reach: {address.host} is none")
    return address


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
