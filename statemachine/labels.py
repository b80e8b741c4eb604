"""Labels as users write them. They are kept as the JSON that was sent, and JSON may hold what no reader takes, such as
the number 1e999: so only texts are decoded."""

from __future__ import annotations

import msgspec

_texts = msgspec.json.Decoder(str)
_OPEN = (b"{", b"[", b"n")


def text(raw: msgspec.Raw) -> str | None:
    """The label when it is a text, else None."""
    data = bytes(raw)
    return _texts.decode(data) if data[:1] == b'"' else None


def written(raw: msgspec.Raw) -> str:
    """As in a filter: texts without their quotes, everything else as it was sent."""
    found = text(raw)
    return bytes(raw).decode() if found is None else found


def is_plain(raw: msgspec.Raw) -> bool:
    """Whether it is a text, a number, true or false."""
    return bytes(raw)[:1] not in _OPEN
