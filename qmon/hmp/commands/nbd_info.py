"""``info nbd``: the NBD server, its exports, and what each client has done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qmon.hmp.commands.migration_info import address_text
from qmon.hmp.handlers import Call, handler
from qmon.hmp.layout import shortened, table
from qmon.hmp.migration_words import forwarded_figures
from qmon.hmp.person import columns_of
from qmon.notation.units import duration, human_size

_INDENT = "  "
_CLIENT_LEAST = 15
"""An address is not shortened to less than this."""
_HEAD = ("client", "connected", "read", "reads", "written", "writes", "flushes")
_LEFT_OUT = ((), ("reads", "writes"), ("reads", "writes", "connected", "flushes"))
"""Columns to leave out where the table is too wide, least first."""


@handler("hmp_info_nbd", "query-block-exports")
async def info_nbd(call: Call) -> None:
    exports = [each for each in (await call.execute("query-block-exports"))[::-1] if each["type"] == "nbd"]
    blocks = await call.execute("query-block") if call.has("query-block") else []
    drives = {block["inserted"].get("node-name"): block["device"] for block in blocks if "inserted" in block}
    if call.has("x-qmon-query-nbd-server"):
        call.print(_server(await call.execute("x-qmon-query-nbd-server")))
    elif not exports:
        call.print("There are no NBD exports")
    for export in exports:
        for line in export_lines(export, drives, columns_of(call.person)):
            call.print(line)
    info = await call.execute("query-migrate") if call.has("query-migrate") else {}
    if forwarded := info.get("x-qmon-forwarded-here"):
        call.print(f"Forwarded by the migration's source: {forwarded_figures(forwarded)}")


def _server(server: Mapping[str, Any]) -> str:
    if not server["running"]:
        return "The NBD server does not run: 'nbd_server_start ADDRESS' starts it"
    return f"NBD server: {address_text(server['address'])}"


def export_lines(export: Mapping[str, Any], drives: Mapping[str, str], columns: int) -> Iterator[str]:
    """Yield the lines for a BlockExportInfo; ``drives`` are the drives' ids by their nodes' names."""
    node = export["node-name"]
    facts = [f"drive '{drives[node]}'" if drives.get(node) else f"node '{node}'"]
    is_moved = export.get("x-qmon-moved", False)
    if is_moved:
        facts.append("the disk has moved to another host, clients are refused")
        if stay := export.get("x-qmon-clients", 0):
            facts.append(f"{stay} that {'stays is' if stay == 1 else 'stay are'} forwarded there")
    elif "x-qmon-writable" in export:
        facts.append("writable" if export["x-qmon-writable"] else "read-only")
    if "x-qmon-clients" in export and not is_moved:
        clients = export["x-qmon-clients"]
        facts.append(f"{clients or 'no'} client{'s' * (clients != 1)}")
    if export.get("shutting-down"):
        facts.append("being removed")
    yield f"Export '{export.get('x-qmon-name', export['id'])}': {', '.join(facts)}"
    if connections := export.get("x-qmon-connections"):
        yield from _connection_lines(connections, columns)


def _connection_lines(connections: Sequence[Mapping[str, Any]], columns: int) -> list[str]:
    """Return a table that fits, with fewer columns if need be, and then with shortened addresses."""
    rows = [_HEAD, *map(_row, connections)]
    lines: list[str] = []
    for left_out in _LEFT_OUT:
        kept = [number for number, name in enumerate(_HEAD) if name not in left_out]
        cells = [[row[number] for number in kept] for row in rows]
        lines = _aligned(cells)
        if (excess := _width(lines) - columns + 1) <= 0:
            return lines
    longest = max(len(row[0]) for row in cells)
    room = max(_CLIENT_LEAST, longest - excess)
    return _aligned([[shortened(row[0], room), *row[1:]] for row in cells])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    return [_INDENT + line for line in table(rows, "<" + ">" * (len(rows[0]) - 1))]


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines))


def _row(connection: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        connection["address"] or "?",
        duration(connection["seconds"]),
        human_size(connection["rd_bytes"]),
        str(connection["rd_operations"]),
        human_size(connection["wr_bytes"]),
        str(connection["wr_operations"]),
        str(connection["flush_operations"]),
    )
