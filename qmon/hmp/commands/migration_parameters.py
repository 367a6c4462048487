"""The migration parameters: how each is written on a monitor line and shown by ``info``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.notation.keyval import parse_switch
from qmon.notation.units import (
    INT64_MAX,
    SIZE_HINT,
    SizeRangeError,
    read_size,
)

_SPACE = " \t\n\v\f\r"
_WHOLE_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<digits>0[xX][0-9a-fA-F]+|[0-9]+)")
_WHOLE_SIZE = re.compile(
    r"\+?(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<decimal>[0-9]+))(?P<rest>(?:\.[0-9]*)?[kKmMgGtTpPeEbB]?)"
)
_SCALED_HEXADECIMAL = re.compile(r"[ \t\n\v\f\r]*\+?0[xX][0-9a-fA-F]+[kKmMgGtTpP]")


def _size(name: str, text: str) -> int:
    """A number, maybe with a suffix."""
    stripped = text.lstrip(_SPACE)
    try:
        value, end = read_size(stripped, 0, "B")
    except SizeRangeError as error:
        match = _WHOLE_SIZE.fullmatch(stripped)
        # Behind digits that are too many already, QEMU reads no further and takes the rest for rubbish.
        if match and (not match["rest"] or _digits(match) < 1 << 64):
            raise CommandError(f"Value '{text}' is out of range for parameter '{name}'") from error
        end = -1
    except ValueError:
        end = -1
    if end != len(stripped):
        raise CommandError(f"Parameter '{name}' {SIZE_HINT}")
    return value


def _digits(size: re.Match[str]) -> int:
    return int(size["hex"], 16) if size["hex"] else int(size["decimal"])


def _signed_size(name: str, text: str) -> int:
    """A size that must fit 63 bits."""
    value = _size(name, text)
    if value > INT64_MAX:
        raise CommandError(f"Invalid size {text}")
    return value


def _bandwidth(name: str, text: str) -> int:
    """A size in MiB when it has no suffix."""
    stripped = text.lstrip(_SPACE)
    try:
        value, end = read_size(stripped, 0, "M")
    except ValueError:
        value, end = 0, -1
    if end != len(stripped) or value > INT64_MAX:
        raise CommandError(f"Invalid size {text}")
    return value


def _unsigned(bits: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        """As C's strtoull, for which a negative number is one from above."""
        match = _WHOLE_NUMBER.fullmatch(text.lstrip(_SPACE))
        try:
            if match is None:
                raise ValueError
            digits = match["digits"]
            base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
            value = int(digits, base)
            if value >= 1 << 64:
                raise ValueError
        except ValueError:
            raise CommandError(f"Parameter '{name}' expects uint64") from None
        if match["sign"] == "-":
            value = -value % (1 << 64)
        if value >= 1 << bits:
            raise CommandError(f"Parameter '{name}' expects uint{bits}_t")
        return value

    return read


_small = _unsigned(8)
_number = _unsigned(32)


def _switch(name: str, text: str) -> bool:
    return parse_switch(name, text)


def _text(name: str, text: str) -> str:
    return text


def _only_qmp(name: str, text: str) -> Any:
    raise CommandError(f"The {name} parameter can only be set through QMP")


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter of MigrationParameters (qapi/migration.json): how it is read, and its unit when shown.

    ``shown`` False: ``info`` leaves it out, as QEMU's does.
    """

    name: str
    read: Callable[[str, str], Any]
    unit: str = ""
    shown: bool = True


PARAMETERS = (
    ParameterRow("announce-initial", _size, " ms"),
    ParameterRow("announce-max", _size, " ms"),
    ParameterRow("announce-rounds", _size),
    ParameterRow("announce-step", _size, " ms"),
    ParameterRow("compress-level", _small),
    ParameterRow("compress-threads", _small),
    ParameterRow("compress-wait-thread", _switch),
    ParameterRow("decompress-threads", _small),
    ParameterRow("throttle-trigger-threshold", _small),
    ParameterRow("cpu-throttle-initial", _small),
    ParameterRow("cpu-throttle-increment", _small),
    ParameterRow("cpu-throttle-tailslow", _switch),
    ParameterRow("max-cpu-throttle", _small),
    ParameterRow("tls-creds", _text),
    ParameterRow("tls-hostname", _text),
    ParameterRow("max-bandwidth", _bandwidth, " bytes/second"),
    ParameterRow("avail-switchover-bandwidth", _bandwidth, " bytes/second"),
    ParameterRow("downtime-limit", _size, " ms"),
    ParameterRow("x-checkpoint-delay", _number, " ms"),
    ParameterRow("block-incremental", _switch),
    ParameterRow("multifd-channels", _small),
    ParameterRow("multifd-compression", _text),
    ParameterRow("zero-page-detection", _text),
    ParameterRow("multifd-zlib-level", _small, shown=False),
    ParameterRow("multifd-zstd-level", _small, shown=False),
    ParameterRow("multifd-qatzip-level", _small, shown=False),
    ParameterRow("xbzrle-cache-size", _signed_size, " bytes"),
    ParameterRow("max-postcopy-bandwidth", _size),
    ParameterRow("tls-authz", _text),
    ParameterRow("block-bitmap-mapping", _only_qmp),
    ParameterRow("x-vcpu-dirty-limit-period", _size, " ms"),
    ParameterRow("vcpu-dirty-limit", _size, " MB/s"),
    ParameterRow("mode", _text),
    ParameterRow("direct-io", _switch),
    ParameterRow("x-qmon-verify-backing", _text),
)
"""In the order of ``info migrate_parameters``: those of QEMU 7.2, of QEMU 10, and our own."""

_BY_NAME = {row.name: row for row in PARAMETERS}
_SIZES = frozenset((_size, _signed_size, _bandwidth))


def read_parameter(name: str, text: str) -> Any:
    """The value for ``migrate-set-parameters``. Raises CommandError or UsageError with QEMU's words."""
    row = _BY_NAME.get(name)
    if row is None:
        raise CommandError(f"invalid parameter value: {name}")
    return row.read(name, text)


def parameter_warning(name: str, text: str) -> str | None:
    """What QEMU says of a value before it reads it."""
    row = _BY_NAME.get(name)
    if row is None or row.read not in _SIZES or not _SCALED_HEXADECIMAL.match(text):
        return None
    return f"warning: Using a multiplier suffix on hex numbers is deprecated: {text}"


def parameter_lines(parameters: Mapping[str, Any]) -> Iterator[str]:
    """What ``query-migrate-parameters`` answered, a line each, but for the mapping."""
    for row in PARAMETERS:
        if not row.shown or row.name not in parameters:
            continue
        value = parameters[row.name]
        if isinstance(value, list):
            yield f"{row.name}:"
            yield from _mapping_lines(value)
        elif isinstance(value, bool):
            yield f"{row.name}: {'on' if value else 'off'}"
        elif row.name.startswith("tls-"):
            yield f"{row.name}: '{value}'"
        else:
            yield f"{row.name}: {value}{row.unit}"


def _mapping_lines(nodes: list[Mapping[str, Any]]) -> Iterator[str]:
    for node in nodes:
        yield f"  '{node['node-name']}' -> '{node['alias']}'"
        for bitmap in node["bitmaps"]:
            yield f"    '{bitmap['name']}' -> '{bitmap['alias']}'"
