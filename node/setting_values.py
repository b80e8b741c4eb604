"""How the value of a setting is read: from a text, or from what TOML makes of it. Each raises ValueError, whose text
continues a sentence that begins with the setting's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.address import Address, check_reachable, parse_address
from statemachine import names


def read_text(value: Any) -> str:
    """A text as it is."""
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 - every reader says what is wrong by ValueError
    return value


def read_node_id(value: Any) -> str:
    """The id of a node."""
    text = read_text(value)
    if wrong := names.check_id(text):
        raise ValueError(wrong)
    return text


def read_address(value: Any) -> Address:
    """A host and a port."""
    return parse_address(read_text(value))


def read_optional_address(value: Any) -> Address | None:
    """As `read_address`, or None."""
    return read_address(value) if value else None


def read_nodes(value: Any) -> tuple[Address, ...]:
    """HTTP addresses, comma-separated, each with or without http:// before it."""
    parts = [part.strip().removeprefix("http://").rstrip("/") for part in read_text(value).split(",") if part.strip()]
    try:
        return tuple(check_reachable(part) for part in parts)
    except ValueError:
        raise ValueError("must be the HTTP address of a node, such as http://127.0.0.1:7400") from None


def read_members(value: Any) -> dict[str, str]:
    """`n1=host:port,n2=…`, or a table of them in TOML."""
    if isinstance(value, dict):
        pairs = [(str(name), str(address)) for name, address in value.items()]
    else:
        parts = [part.strip() for part in read_text(value).split(",") if part.strip()]
        pairs = [(name.strip(), address.strip()) for name, _, address in (part.partition("=") for part in parts)]
    members: dict[str, str] = {}
    for name, address in pairs:
        if wrong := names.check_id(name):
            raise ValueError(f"member {name!r} {wrong}; write n1=host:port,n2=host:port")
        if name in members:
            raise ValueError(f"names {name!r} twice")
        members[name] = str(read_address(address))
    if len(set(members.values())) < len(members):
        raise ValueError("gives two members the same address")
    return members


def read_boolean(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("must be true or false")
    return words[value.lower()]


def whole(minimum: int, maximum: int) -> Callable[[Any], int]:
    """Reads a whole number within bounds."""

    def read(value: Any) -> int:
        text = str(value)
        if isinstance(value, bool) or not (text.isascii() and text.isdecimal()) or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    return read


def choice(*words: str) -> Callable[[Any], str]:
    """Reads one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return read
