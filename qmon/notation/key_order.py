"""The order in which QEMU prints the members of a JSON object. Pure.

QEMU keeps them in a hash table of 512 buckets and prints bucket after bucket, in each the last member first.
The hash function is that of Samba's tdb.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_BUCKETS = 512
_PERIOD = 24
"""A byte is shifted by five times its index, modulo 24 bits: bytes that are 24 apart by the same number."""
MEMBERS_MAX = 512
KEY_MAX = 256
"""Larger objects and longer keys stay in their own order: sorting them would keep the loop."""


def in_order(members: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return an object's members as QEMU prints them, if they were inserted in the mapping's order."""
    if len(members) < 2 or len(members) > MEMBERS_MAX or any(len(key) > KEY_MAX for key in members):
        return list(members.items())
    last_first = list(members.items())[::-1]
    return sorted(last_first, key=_bucket_of)


def _bucket_of(member: tuple[str, Any]) -> int:
    return _bucket(member[0])


@lru_cache(4096)
def _bucket(key: str) -> int:
    data = key.encode("utf-8", "surrogateescape").replace(b"\0", b"\xc0\x80")
    total = 0x238F13AF * len(data)
    for index in range(min(len(data), _PERIOD)):
        total += sum(data[index::_PERIOD]) << index * 5 % _PERIOD
    return (1103515243 * total + 12345) % _BUCKETS
