"""The destination's report about a trial, the body of a REPORT answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmon.migration.wire.answers import AnswerError

MAX_SENTENCES = 50
MAX_BYTES = 24 << 10
"""The most sentences, and their bytes, in each list of a report: more are only counted. Two lists fit into an
answer."""

MAX_SENTENCE = 1000
"""The most characters of a sentence."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the destination has found.

    A migration would be refused because of the ``mismatches``. ``warnings`` tell what might go wrong later.
    ``needed`` are the numbers, in the offer, of read-only drives that would be copied.
    """

    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    needed: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return the body of REPORT: JSON."""
        fields: dict[str, Any] = {
            "mismatches": _bounded(self.mismatches),
            "warnings": _bounded(self.warnings),
            "needed": self.needed,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, body: bytes) -> Report:
        """Read the body of REPORT; unknown fields are ignored. Raises AnswerError."""
        try:
            fields = json.loads(body)
            mismatches, warnings = (_sentences(fields[name]) for name in ("mismatches", "warnings"))
            return cls(mismatches, warnings, _numbers(fields["needed"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise AnswerError("the destination's answer is not valid: REPORT can't be read") from error


def _bounded(sentences: Sequence[str]) -> list[str]:
    kept: list[str] = []
    used = 0
    for each in sentences[:MAX_SENTENCES]:
        used += len(json.dumps(each[:MAX_SENTENCE]))
        if used > MAX_BYTES:
            break
        kept.append(each[:MAX_SENTENCE])
    if len(kept) < len(sentences):
        kept.append(f"and {len(sentences) - len(kept)} more")
    return kept


def _sentences(value: Any) -> tuple[str, ...]:
    good = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
    if not good or len(value) > MAX_SENTENCES + 1:
        raise ValueError("not a list of sentences")
    return tuple(value)


def _numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(each) is not int or each < 0 for each in value):
        raise ValueError("not a list of numbers")
    return tuple(value)
