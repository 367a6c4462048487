"""``drive_add``: the options of a drive that comes while the machine runs, with QEMU's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.drive_keys import (
    check_values,
    is_known_key,
    read_group,
    read_limits,
)
from qmon.notation.drive_options import FORMATS, UNITS_PER_BUS
from qmon.notation.keyval import (
    HELP_WORDS,
    IDENTIFIER_HINT,
    is_identifier,
    parse_keyval,
    parse_number,
    parse_switch,
    short_form,
    split_options,
)


@handler("hmp_drive_add")
async def drive_add(call: Call) -> None:
    text = call.text("opts")
    for warning in short_forms(text):
        call.print(warning)
    try:
        keys = parse_keyval(text)
        if call.flag("node"):
            raise LineError(refuse_node(keys))
        if keys.get("format", keys.get("driver")) in HELP_WORDS:
            _list_formats(call)
            return
        arguments = read_drive(keys)
    except UsageError as error:
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
    """QEMU's warning for each switch that is written without its value."""
    warnings = []
    for part in split_options(text):
        if part and "=" not in part and part not in HELP_WORDS:
            name, value = short_form(part)
            warnings.append(
                f"warning: short-form boolean option '{part}' deprecated\nPlease use {name}={value} instead"
            )
    return warnings


def refuse_node(keys: Mapping[str, str]) -> str:
    """What QEMU says of a node's options that are wrong, else that there are no nodes without a drive."""
    if not keys.get("driver") and not keys.get("file"):
        return "Must specify either driver or file"
    if "node-name" not in keys:
        return "'node-name' needs to be specified"
    driver = keys.get("driver")
    if driver is not None and driver not in (*FORMATS, "file", "host_device"):
        return f"Unknown driver '{driver}'"
    if not is_identifier(keys["node-name"]):
        return f"Invalid node-name: '{keys['node-name']}'"
    return "drive_add -n: nodes without a drive are not supported, leave -n out"


def read_drive(keys: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of ``x-qmon-drive-add``. Raises UsageError with QEMU's words."""
    name = keys.get("id")
    if name is not None and not is_identifier(name):
        raise UsageError(f"Parameter 'id' expects an identifier\n{IDENTIFIER_HINT}")
    if "readonly" in keys and "read-only" in keys:
        raise UsageError("'read-only' and its alias 'readonly' can't be used at the same time")
    media = keys.get("media", "disk")
    if media not in ("disk", "cdrom"):
        raise UsageError(f"'{media}' invalid media")
    interface = keys.get("if", "none")
    if interface not in UNITS_PER_BUS:
        raise UsageError(f"unsupported bus type '{interface}'")
    arguments: dict[str, Any] = {"if": interface, **_place(keys), **_image(keys)}
    if name is not None:
        arguments["id"] = name
    if media == "cdrom":
        arguments["readonly"] = True
    return arguments


def _image(keys: Mapping[str, str]) -> dict[str, Any]:
    read_only = parse_switch("read-only", keys.get("readonly", keys.get("read-only", "off")))
    check_values(keys)
    if "format" in keys and "driver" in keys:
        raise UsageError("Cannot specify both 'driver' and 'format'")
    if parse_switch("snapshot", keys.get("snapshot", "off")):
        raise UsageError("snapshot=on is not supported: put an overlay on the image and name it")
    image: dict[str, Any] = {"readonly": read_only}
    format = keys.get("format", keys.get("driver"))
    if format is not None:
        image["format"] = format
    if keys.get("file"):
        image["file"] = keys["file"]
    if limits := read_limits(keys):
        image["throttling"] = limits
    group = read_group(keys)
    if group is not None:
        image["group"] = group
    if "node-name" in keys:
        image["node-name"] = keys["node-name"]
    unknown = next((key for key in keys if not is_known_key(key)), None)
    if unknown is not None:
        if "file" not in image and format is None:
            raise UsageError("Must specify either driver or file")
        raise UsageError(f"Block format '{format or 'raw'}' does not support the option '{unknown}'")
    return image


def _place(keys: Mapping[str, str]) -> dict[str, Any]:
    index, bus, unit = (_number(key, keys) for key in ("index", "bus", "unit"))
    if index is not None and (bus or unit is not None):
        raise UsageError("index cannot be used with bus and unit")
    if index is not None:
        return {"index": index}
    return {} if unit is None else {"unit": unit}


def _number(key: str, keys: Mapping[str, str]) -> int | None:
    value = keys.get(key)
    return None if value is None else parse_number(key, value)
