"""Patterns of paths, and whether two of them have a path in common.

A path is segments between slashes, each of at least one character, none of them a control character. In a pattern `**`
as a whole segment stands for any number of segments, none included; within a segment `*` stands for any characters,
none included, `?` for one, `[abc]`, `[a-z]` and `[!a-z]` for one of a set; a backslash takes its meaning from what
follows; everything else stands for itself. Case counts, and nothing is normalised: what would be is refused (`parse`).

`overlap` is exact. It walks both patterns as automata, the states of one in the bits of a number: for segments of
`m` and `n` characters that is `m` steps on numbers of `n` bits, for paths of `p` and `q` segments at most `p * q` pairs
of segments, nearly all of them compared as plain texts. Patterns are parsed once and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from statemachine import limits

Ranges = tuple[tuple[int, int], ...]
"""A set of characters: ranges of code points, both ends included, ascending and apart."""

Token = Ranges | None
"""One character of a set, or (None) any characters."""

# What a segment may be made of: no control characters, no halves of pairs, no slash.
_NOT_SLASH: Ranges = ((0x20, 0x2E), (0x30, 0x7E), (0xA0, 0xD7FF), (0xE000, 0x10FFFF))
_CONTROL_MAX, _DELETE, _CONTROL_1_MAX = 0x1F, 0x7F, 0x9F
_PARSED_KEPT = 16_384
_PAIRS_BITS = 6


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. `text` when it has no wildcards; `head` and `tail` are the texts before the first and after the last
    wildcard. The masks have a bit for each token: `stars`, and by character the tokens that are just that character;
    `sets` are the other sets."""

    tokens: tuple[Token, ...]
    text: str | None
    head: str
    tail: str
    stars: int
    characters: dict[int, int] = field(compare=False)
    sets: tuple[tuple[int, Ranges], ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. A segment None is `**`. `prefix` are the segments before the first wildcard; all of them are
    when it is `plain`. `size` counts its segments, and the characters of those with wildcards."""

    segments: tuple[Segment | None, ...]
    prefix: tuple[str, ...]
    plain: bool
    size: int


@lru_cache(maxsize=_PARSED_KEPT)
def parse(text: str) -> Pattern:
    """The pattern of this text. Raises ValueError: what is wrong, as the end of a sentence that begins with a field."""
    _check(text)
    segments: list[Segment | None] = []
    wildcards = 0
    for part in text.split("/"):
        if part == "**":
            wildcards += 1
            if not segments or segments[-1] is not None:
                segments.append(None)
            continue
        segment = _segment(part)
        segments.append(segment)
        wildcards += segment.stars.bit_count() + len(segment.sets)
    if wildcards > limits.LOCK_WILDCARDS_MAX:
        raise ValueError(f"must hold at most {limits.LOCK_WILDCARDS_MAX} wildcards")
    prefix: list[str] = []
    for one in segments:
        if one is None or one.text is None:
            break
        prefix.append(one.text)
    size = sum(1 if one is None or one.text is not None else len(one.tokens) for one in segments)
    return Pattern(tuple(segments), tuple(prefix), len(prefix) == len(segments), size)


def steps(a: Pattern, b: Pattern) -> int:
    """How much `overlap` has to do at most, where two plain patterns, or short ones, are one step."""
    return 1 if a.plain and b.plain else 1 + (a.size * b.size >> _PAIRS_BITS)


def overlap(a: Pattern, b: Pattern) -> bool:
    """Whether some path matches both patterns."""
    for mine, theirs in zip(a.prefix, b.prefix, strict=False):
        if mine != theirs:
            return False
    if a.plain and b.plain:
        return len(a.segments) == len(b.segments)
    if b.plain:
        a, b = b, a
    end = len(b.segments)
    doubles = sum(1 << place for place, one in enumerate(b.segments) if one is None)
    # Bit n: what was matched of `a` so far may be what the first n segments of `b` stand for.
    reached = 1 | (doubles & 1) << 1
    for segment in a.segments:
        if segment is None:
            reached = _from_lowest(reached, end)
            continue
        after, left = reached & doubles, reached & ~doubles & ~(1 << end)
        while left:
            lowest = left & -left
            left ^= lowest
            other = b.segments[lowest.bit_length() - 1]
            if other is not None and _meet(segment, other):
                after |= lowest << 1
        reached = after | (after & doubles) << 1
        if not reached:
            return False
    return bool(reached >> end & 1)


def _meet(a: Segment, b: Segment) -> bool:
    """Whether some text matches both segments."""
    if a.text is not None and b.text is not None:
        return a.text == b.text
    if not (a.head.startswith(b.head) or b.head.startswith(a.head)):
        return False
    if not (a.tail.endswith(b.tail) or b.tail.endswith(a.tail)):
        return False
    end, stars = len(b.tokens), b.stars
    reached = 1 | (stars & 1) << 1
    for token in a.tokens:
        if token is None:
            reached = _from_lowest(reached, end)
            continue
        after = reached & stars | (reached & _accepting(b, token)) << 1
        reached = after | (after & stars) << 1
        if not reached:
            return False
    return bool(reached >> end & 1)


def _from_lowest(reached: int, end: int) -> int:
    """All places from the first reached one on: any characters, or segments, lead from a place to every later one."""
    lowest = reached & -reached
    return (1 << end + 1) - lowest


def _accepting(segment: Segment, token: Ranges) -> int:
    """The tokens of the segment that have a character in common with this one."""
    first, last = token[0][0], token[-1][1]
    if first == last:
        found = segment.characters.get(first, 0)
    else:
        found = 0
        for character, places in segment.characters.items():
            if any(low <= character <= high for low, high in token):
                found |= places
    for place, ranges in segment.sets:
        if any(low <= high_b and low_b <= high for low, high in token for low_b, high_b in ranges):
            found |= 1 << place
    return found


# --- parsing ----------------------------------------------------------------------------------------------------------


def _check(text: str) -> None:
    if not text:
        raise ValueError("must not be empty")
    if len(text.encode()) > limits.LOCK_PATH_BYTES_MAX:
        raise ValueError(f"must be at most {limits.LOCK_PATH_BYTES_MAX} bytes")
    if any(ord(c) <= _CONTROL_MAX or _DELETE <= ord(c) <= _CONTROL_1_MAX for c in text):
        raise ValueError("must not hold control characters")
    if text[0] == "/" or text[-1] == "/":
        raise ValueError("must not begin or end with /: it is relative to the root of its repository")
    parts = text.split("/")
    if "" in parts:
        raise ValueError("must not hold an empty segment")
    if len(parts) > limits.LOCK_SEGMENTS_MAX:
        raise ValueError(f"must have at most {limits.LOCK_SEGMENTS_MAX} segments")


def _segment(part: str) -> Segment:
    tokens: list[Token] = []
    place = 0
    while place < len(part):
        character = part[place]
        place += 1
        if character == "*":
            if tokens and tokens[-1] is None:
                raise ValueError("must have ** only as a whole segment")
            tokens.append(None)
        elif character == "?":
            tokens.append(_NOT_SLASH)
        elif character == "[":
            ranges, place = _set(part, place)
            tokens.append(ranges)
        else:
            if character == "\\":
                character, place = _escaped(part, place)
            tokens.append(_one(ord(character)))
    text = _text(tokens)
    if text in {".", ".."}:
        raise ValueError("must not hold . or .. as a segment")
    wild = [place for place, token in enumerate(tokens) if token is None or not _is_one(token)]
    characters: dict[int, int] = {}
    for place, token in enumerate(tokens):
        if token is not None and _is_one(token):
            characters[token[0][0]] = characters.get(token[0][0], 0) | 1 << place
    return Segment(
        tuple(tokens),
        text,
        _text(tokens[: wild[0]] if wild else tokens) or "",
        _text(tokens[wild[-1] + 1 :] if wild else tokens) or "",
        sum(1 << place for place in wild if tokens[place] is None),
        characters,
        tuple((place, token) for place in wild if (token := tokens[place]) is not None),
    )


def _text(tokens: list[Token]) -> str | None:
    """What the tokens stand for, when that is one text."""
    found = []
    for token in tokens:
        if token is None or not _is_one(token):
            return None
        found.append(chr(token[0][0]))
    return "".join(found)


@lru_cache(maxsize=_PARSED_KEPT)
def _one(character: int) -> Ranges:
    """The same object for every place of a character: thousands of patterns are remembered."""
    return ((character, character),)


def _is_one(token: Ranges) -> bool:
    return len(token) == 1 and token[0][0] == token[0][1]


def _escaped(part: str, place: int) -> tuple[str, int]:
    if place == len(part):
        raise ValueError("must not end a segment with a backslash")
    return part[place], place + 1


def _set(part: str, place: int) -> tuple[Ranges, int]:
    """The set that began before `place`, and where the pattern goes on."""
    if part[place : place + 1] == "^":
        raise ValueError("must say [!…] for what is not in a set; a ^ that is meant needs a backslash")
    negated = part[place : place + 1] == "!"
    place += negated
    found: list[tuple[int, int]] = []
    first = True
    while True:
        if place >= len(part):
            raise ValueError("must close each [ within its segment; one that is meant needs a backslash")
        if part[place] == "]" and not first:
            break
        first = False
        low, place = _of_set(part, place)
        high = low
        if part[place : place + 1] == "-" and part[place + 1 : place + 2] not in {"", "]"}:
            high, place = _of_set(part, place + 1)
            if high < low:
                raise ValueError(f"must not have the empty range {chr(low)}-{chr(high)}")
        found.append((low, high))
    ranges = _within(_without(found) if negated else _merged(found), _NOT_SLASH)
    if not ranges:
        raise ValueError("must not have a set without characters")
    return ranges, place + 1


def _of_set(part: str, place: int) -> tuple[int, int]:
    character, place = part[place], place + 1
    if character == "\\":
        character, place = _escaped(part, place)
    return ord(character), place


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def _without(ranges: list[tuple[int, int]]) -> Ranges:
    """All characters but these."""
    left: list[tuple[int, int]] = []
    begin = 0
    for low, high in _merged(ranges):
        if begin < low:
            left.append((begin, low - 1))
        begin = high + 1
    if begin <= _NOT_SLASH[-1][1]:
        left.append((begin, _NOT_SLASH[-1][1]))
    return tuple(left)


def _within(a: Ranges, b: Ranges) -> Ranges:
    return tuple(
        (max(low, low_b), min(high, high_b))
        for low, high in a
        for low_b, high_b in b
        if max(low, low_b) <= min(high, high_b)
    )
