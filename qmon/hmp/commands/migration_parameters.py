"""The migration parameters: how each is written on a monitor line and shown by ``info``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.arguments import INT64_MAX, read_size
from qmon.keyval import parse_switch

_WHOLE_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_PLAIN_SIZE_HELP = (
    "expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)


def _bandwidth(name: str, text: str) -> int:
    """A size in MiB when it has no suffix."""
    try:
        value, end = read_size(text, 0, "M")
    except ValueError:
        value, end = 0, -1
    if end != len(text) or value > INT64_MAX:
        raise CommandError(f"Invalid size {text}")
    return value


def _size(name: str, text: str) -> int:
    """A whole number, maybe with a suffix."""
    try:
        value, end = read_size(text, 0, "B")
    except ValueError:
        value, end = 0, -1
    if end != len(text) or re.fullmatch(r"\+?\d+\.\d*", text):
        raise CommandError(f"Parameter '{name}' {_PLAIN_SIZE_HELP}")
    return value


def _unsigned(bits: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text):
            raise CommandError(f"Parameter '{name}' expects uint{bits}_t")
        base = 16 if text[:2].lower() == "0x" else 8 if text[0] == "0" else 10
        value = int(text[:40], base)
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
    ParameterRow("downtime-limit", _size, " ms"),
    ParameterRow("x-checkpoint-delay", _number, " ms"),
    ParameterRow("block-incremental", _switch),
    ParameterRow("multifd-channels", _small),
    ParameterRow("multifd-compression", _text),
    ParameterRow("multifd-zlib-level", _small, shown=False),
    ParameterRow("multifd-zstd-level", _small, shown=False),
    ParameterRow("xbzrle-cache-size", _size, " bytes"),
    ParameterRow("max-postcopy-bandwidth", _size),
    ParameterRow("tls-authz", _text),
    ParameterRow("block-bitmap-mapping", _only_qmp, shown=False),
)
"""In the order in which ``info migrate_parameters`` shows them."""

_BY_NAME = {row.name: row for row in PARAMETERS}


def read_parameter(name: str, text: str) -> Any:
    """The value for ``migrate-set-parameters``. Raises CommandError or UsageError with QEMU's words."""
    row = _BY_NAME.get(name)
    if row is None:
        raise CommandError(f"invalid parameter value: {name}")
    return row.read(name, text)


def parameter_lines(parameters: Mapping[str, Any]) -> list[str]:
    """What ``query-migrate-parameters`` answered, a line each."""
    lines = []
    for row in PARAMETERS:
        if not row.shown or row.name not in parameters:
            continue
        value = parameters[row.name]
        if isinstance(value, bool):
            shown = "on" if value else "off"
        elif row.name.startswith("tls-"):
            shown = f"'{value}'"
        else:
            shown = f"{value}{row.unit}"
        lines.append(f"{row.name}: {shown}")
    return lines
