"""Reads DER, the encoding of certificates (ITU-T X.690). Pure; what it reads is not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE, SET, OBJECT_IDENTIFIER = 0x30, 0x31, 0x06
UTF8, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E


class Element(NamedTuple):
    """One element: its tag, its content, and all of it."""

    tag: int
    content: bytes
    whole: bytes


def elements(data: bytes) -> Iterator[Element]:
    """Yield the elements of which ``data`` consists. Raises ValueError."""
    at = 0
    while at < len(data):
        if len(data) < at + 2 or data[at] & 0x1F == 0x1F:
            raise ValueError("not DER: an element without a length, or with a long tag")
        head, length = 2, data[at + 1]
        if length & 0x80:
            size = length & 0x7F
            head += size
            length = int.from_bytes(data[at + 2 : at + head], "big")
            if not 0 < size <= 4:
                raise ValueError("not DER: the length of an element is not one")
        end = at + head + length
        if end > len(data):
            raise ValueError("not DER: an element ends behind the data")
        yield Element(data[at], data[at + head : end], data[at:end])
        at = end


def children(element: Element, tag: int) -> list[Element]:
    """Return the elements in an element, which must have this tag. Raises ValueError."""
    if element.tag != tag:
        raise ValueError(f"not what was expected in DER: tag {element.tag:#x} instead of {tag:#x}")
    return list(elements(element.content))


def identifier(element: Element) -> str:
    """Return an object identifier as ``2.5.4.3``. Raises ValueError."""
    if element.tag != OBJECT_IDENTIFIER or not element.content or element.content[-1] & 0x80:
        raise ValueError("not an object identifier in DER")
    numbers, number = [], 0
    for byte in element.content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
