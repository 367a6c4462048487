"""``drive_add``: reads the options of a new drive, with QEMU's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.drive_options import FORMATS, DriveOptions, read_drive
from qmon.notation.keyval import HELP_WORDS, parse_keyval, short_form, split_options


@handler("hmp_drive_add", "x-qmon-drive-add")
async def drive_add(call: Call) -> None:
    text = call.text("opts")
    for warning in short_forms(text):
        call.print(warning)
    try:
        await _add(call, text)
    except LineError:
        call.hint(_file_hint(text))
        raise


async def _add(call: Call, text: str) -> None:
    try:
        keys = parse_keyval(text)
        if call.flag("node"):
            _check_node(keys)
            await call.execute("x-qmon-node-add", {"options": keys})
            return
        if keys.get("format", keys.get("driver")) in HELP_WORDS:
            _list_formats(call)
            return
        arguments = _arguments(read_drive(keys, "none"))
    except (CommandError, UsageError) as error:
        raise LineError(str(error)) from error
    try:
        await call.execute("x-qmon-drive-add", arguments)
    except CommandError as error:
        raise LineError(str(error)) from error
    call.print("OK")


def _list_formats(call: Call) -> None:
    for kind in ("formats", "formats (read-only)"):
        call.print(f"Supported {kind}: {' '.join(sorted(FORMATS))}")


def short_forms(text: str) -> list[str]:
    """Return QEMU's warning for each switch without a value."""
    warnings = []
    for part in split_options(text):
        if part and "=" not in part and part not in HELP_WORDS:
            name, value = short_form(part)
            warnings.append(
                f"warning: short-form boolean option '{part}' deprecated\nPlease use {name}={value} instead"
            )
    return warnings


def _file_hint(text: str) -> str | None:
    """Return how to give the image if the options have a bare word in its place."""
    parts = split_options(text)
    bare = [part for part in parts if part and "=" not in part and part not in (*HELP_WORDS, "readonly")]
    return None if not bare or any(part.startswith("file") for part in parts) else f"Write file={bare[0]}"


def _check_node(keys: Mapping[str, str]) -> None:
    """Raises LineError with QEMU's message if a node's options lack what every node needs."""
    if not keys.get("driver") and not keys.get("file"):
        raise LineError("Must specify either driver or file")
    if "node-name" not in keys:
        raise LineError("'node-name' needs to be specified")


def _arguments(drive: DriveOptions) -> dict[str, Any]:
    """Return the arguments of ``x-qmon-drive-add``."""
    given = {
        "if": drive.interface,
        "readonly": drive.read_only,
        "id": drive.id or None,
        "file": drive.file or None,
        "format": drive.format,
        "throttling": drive.limits or None,
        "group": drive.group,
        "node-name": drive.node_name,
        "index": drive.index,
        "unit": drive.unit,
        "options": dict(drive.options) or None,
        "snapshot": drive.is_temporary or None,
    }
    return {name: value for name, value in given.items() if value is not None}
