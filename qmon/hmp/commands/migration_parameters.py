"""Migration parameters: how each is read from a monitor line and shown by ``info``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.notation.keyval import parse_size_option
from qmon.notation.units import INT64_MAX, parse_size
from qmon.notation.visit import Form, Kind, Switch, Unsigned

_SCALED_HEXADECIMAL = re.compile(r"[ \t\n\v\f\r]*\+?0[xX][0-9a-fA-F]+[kKmMgGtTpP]")


def _signed_size(name: str, text: str) -> int:
    """Read a size of at most 63 bits; return bytes."""
    value = parse_size_option(name, text)
    if value > INT64_MAX:
        raise CommandError(f"Invalid size {text}")
    return value


def _bandwidth(name: str, text: str) -> int:
    """Read a size, in MiB if it has no suffix; return bytes."""
    try:
        value = parse_size(text, "M")
    except ValueError:
        value = INT64_MAX + 1
    if value > INT64_MAX:
        raise CommandError(f"Invalid size {text}")
    return value


def _by_kind(kind: Kind) -> Callable[[str, str], Any]:
    return lambda name, text: kind.read(text, Form.STRING, (name,))


_small = _by_kind(Unsigned(8))
_number = _by_kind(Unsigned(32))
_switch = _by_kind(Switch())


def _text(name: str, text: str) -> str:
    return text


def _only_qmp(name: str, text: str) -> Any:
    raise CommandError(f"The {name} parameter can only be set through QMP")


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter of MigrationParameters (qapi/migration.json): how it is read, and its unit.

    ``shown`` False: ``info`` does not show it, as in QEMU.
    """

    name: str
    read: Callable[[str, str], Any]
    unit: str = ""
    shown: bool = True

    @property
    def written(self) -> str:
        """How a value is written if that is not how it is shown; else ""."""
        return "A number is in MiB/s; or write 500K, 1G." if self.read is _bandwidth else ""


PARAMETERS = (
    ParameterRow("announce-initial", parse_size_option, " ms"),
    ParameterRow("announce-max", parse_size_option, " ms"),
    ParameterRow("announce-rounds", parse_size_option),
    ParameterRow("announce-step", parse_size_option, " ms"),
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
    ParameterRow("downtime-limit", parse_size_option, " ms"),
    ParameterRow("x-checkpoint-delay", _number, " ms"),
    ParameterRow("block-incremental", _switch),
    ParameterRow("multifd-channels", _small),
    ParameterRow("multifd-compression", _text),
    ParameterRow("zero-page-detection", _text),
    ParameterRow("multifd-zlib-level", _small, shown=False),
    ParameterRow("multifd-zstd-level", _small, shown=False),
    ParameterRow("multifd-qatzip-level", _small, shown=False),
    ParameterRow("xbzrle-cache-size", _signed_size, " bytes"),
    ParameterRow("max-postcopy-bandwidth", parse_size_option),
    ParameterRow("tls-authz", _text),
    ParameterRow("block-bitmap-mapping", _only_qmp),
    ParameterRow("x-vcpu-dirty-limit-period", parse_size_option, " ms"),
    ParameterRow("vcpu-dirty-limit", parse_size_option, " MB/s"),
    ParameterRow("mode", _text),
    ParameterRow("direct-io", _switch),
    ParameterRow("x-qmon-verify-backing", _text),
    ParameterRow("x-qmon-verify-copy", _text),
    ParameterRow("x-qmon-copy-mode", _text),
)
"""In the order of ``info migrate_parameters``: QEMU 7.2's, QEMU 10's, then qmon's own."""

CONSOLES = ("max-bandwidth", "downtime-limit", "x-qmon-verify-copy", "x-qmon-copy-mode")
"""The parameters that a QEMU's console keeps, for migrations of disks and memory together."""

BY_NAME = {row.name: row for row in PARAMETERS}
_SIZES = frozenset((parse_size_option, _signed_size, _bandwidth))


def read_parameter(name: str, text: str) -> Any:
    """Return the value for ``migrate-set-parameters``.

    Raises CommandError or UsageError with QEMU's message.
    """
    row = BY_NAME.get(name)
    if row is None:
        raise CommandError(f"invalid parameter value: {name}")
    return row.read(name, text)


def parameter_warning(name: str, text: str) -> str | None:
    """Return QEMU's warning about a value, or None."""
    row = BY_NAME.get(name)
    if row is None or row.read not in _SIZES or not _SCALED_HEXADECIMAL.match(text):
        return None
    return f"warning: Using a multiplier suffix on hex numbers is deprecated: {text}"


def parameter_lines(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for the result of ``query-migrate-parameters``."""
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
