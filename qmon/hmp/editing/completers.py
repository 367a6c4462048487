"""Finds the possible values of an argument: from the target, a folder or a list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qmon.hmp.commands.migration_help import has_effect
from qmon.hmp.commands.migration_parameters import PARAMETERS
from qmon.hmp.disks import Node, query_disks
from qmon.hmp.editing import qemu_names
from qmon.hmp.editing.place import Choice, Completer, Place, behind, unused
from qmon.hmp.editing.word_lists import (
    ADDRESSES,
    ARGUMENTS,
    DRIVE_OPTIONS,
    RESOLUTIONS,
    SWITCH,
    Words,
)
from qmon.host.logs import (
    ALL,
    LOG_ITEMS,
    NONE,
    TRACE_PREFIX,
)
from qmon.notation.units import human_size

FILES_MAX = 200
"""The most names of a folder that are offered."""


async def choices_at(place: Place, completer: str | None) -> list[Choice]:
    """Return the possible words at a place, sorted; ``completer`` is the table's ``.command_completion``.

    Raises CommandError if a query fails.
    """
    found = _COMPLETERS.get((completer, place.key)) or _COMPLETERS.get((completer, None))
    if found is not None:
        return await found(place)
    words = ARGUMENTS.get((place.command, place.key))
    if words is not None and place.parameter.kind != "b":
        return _sorted(words)
    by_key = _BY_KEY.get((place.command, place.key))
    if by_key is not None:
        return await by_key(place)
    match place.parameter.kind:
        case "B":
            return await _drives(place)
        case "F":
            return _files(place.typed)
        case "b":
            return _sorted(words or SWITCH)
    return []


def _sorted(words: Words) -> list[Choice]:
    return sorted(words.items())


async def _drives(place: Place) -> list[Choice]:
    if place.is_on_qemu:
        return await qemu_names.disks_and_nodes(place)
    disks = await query_disks(place.target)
    return sorted((disk.name, _medium(disk.node)) for disk in disks if disk.name)


def _medium(inserted: Node | None) -> str:
    """Describe a medium in a few words: ``raw, 16 MiB, d0.img``."""
    if inserted is None:
        return "no medium"
    size = inserted.get("image", {}).get("virtual-size")
    words = (inserted.get("drv"), human_size(size) if size is not None else "", inserted.get("file"))
    return ", ".join(word for word in words if word)


def _files(typed: str) -> list[Choice]:
    quoted = typed.startswith('"')
    path = typed.removeprefix('"').replace('\\"', '"').replace("\\\\", "\\")
    folder, _, name = path.rpartition("/")
    start = folder + "/" if "/" in path else ""
    try:
        found = sorted(
            (entry.name + "/" * entry.is_dir(), entry)
            for entry in Path(start or ".").iterdir()
            if entry.name.startswith(name) and (name or not entry.name.startswith("."))
        )
        return [(_quote(start + name, quoted), _file_meaning(entry)) for name, entry in found[:FILES_MAX]]
    except OSError:
        return []  # the folder does not exist or can't be read


def _file_meaning(entry: Path) -> str:
    try:
        return human_size(entry.stat().st_size) if entry.is_file() else ""
    except OSError:
        return ""  # the file was removed in between


def _quote(path: str, quoted: bool) -> str:
    """Return a path as an argument, quoted if necessary. A folder's quote stays open, so more can follow."""
    if not quoted and not any(character in ' \t"\\' for character in path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}' if path.endswith("/") else f'"{escaped}"'


async def _settings(place: Place, kind: str) -> dict[str, dict[str, Any]]:
    """Return the target's descriptions of its migration parameters or capabilities, by name."""
    told = await place.ask("x-qmon-query-migrate-settings")
    return {row["name"]: row for row in told[kind]} if told else {}


async def _capabilities(place: Place) -> list[Choice]:
    known: list[dict[str, Any]] = await place.ask("query-migrate-capabilities")
    told = await _settings(place, "capabilities")
    return _effective_first(
        (
            (name, _with_meaning("on" if each["state"] else "off", told.get(name)))
            for each in known
            if (name := each["capability"])
        ),
        told,
    )


async def _switch(place: Place) -> list[Choice]:
    return _sorted(SWITCH)


async def _parameters(place: Place) -> list[Choice]:
    known = {row.name: row.unit.strip() for row in PARAMETERS}
    values = await place.ask("query-migrate-parameters")
    told = await _settings(place, "parameters")
    return _effective_first(
        (
            (name, _with_meaning(_shown(values[name], known.get(name, "")), told.get(name)))
            for name in values
            if name in known or place.is_on_qemu
        ),
        told,
    )


def _effective_first(choices: Iterable[Choice], told: dict[str, dict[str, Any]]) -> list[Choice]:
    """Sort settings by name, those without effect on the target last."""
    return sorted(choices, key=lambda choice: (not has_effect(told.get(choice[0])), choice))


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if unit.startswith("bytes"):
        return human_size(value) + "/s" * unit.endswith("/second")
    return f"{value} {unit}".strip() if value not in ("", []) else ""


def _with_meaning(value: str, row: dict[str, Any] | None) -> str:
    return ": ".join(part for part in (value, row["meaning"] if row else "") if part)


async def _parameter_values(place: Place) -> list[Choice]:
    told = await _settings(place, "parameters")
    row = told.get(str(place.values.get("parameter")), {})
    if place.is_on_qemu and not row:
        return await qemu_names.parameter_values(place)
    return [(word, "") for word in row.get("values", ())]


async def _exports(place: Place) -> list[Choice]:
    exports: list[dict[str, Any]] = await place.ask("query-block-exports")
    return sorted((export.get("x-qmon-name", export["id"]), _export_meaning(export)) for export in exports)


def _export_meaning(export: dict[str, Any]) -> str:
    node = f"node {export['node-name']}" if export.get("node-name") else ""
    clients = export.get("x-qmon-clients")
    users = "" if clients is None else f"{clients} client{'s' * (clients != 1)}"
    return ", ".join(part for part in (node, users) if part)


async def _jobs(place: Place) -> list[Choice]:
    jobs: list[dict[str, Any]] = await place.ask("query-block-jobs")
    return sorted((job["device"], f"{job['type']}, {_share(job['offset'], job['len'])}") for job in jobs)


def _share(done: int, total: int) -> str:
    return f"{done * 100 // total if total else 100}%"


async def _resolutions(place: Place) -> list[Choice]:
    return _sorted(RESOLUTIONS)


async def _addresses(place: Place) -> list[Choice]:
    return _sorted(ADDRESSES)


async def _snapshots(place: Place) -> list[Choice]:
    images = [disk.node["image"] for disk in await query_disks(place.target) if disk.node]
    named = {row["name"]: row for image in images for row in image.get("snapshots", ())}
    return sorted((name, human_size(row.get("vm-state-size", 0))) for name, row in named.items())


async def _new_object(place: Place) -> list[Choice]:
    if place.is_on_qemu:
        return await qemu_names.new_object(place)
    if place.values:
        return []
    # imported here so that the first prompt is not delayed
    from qmon.notation.object_options import options_of, type_names, written

    kind, comma, _ = place.typed.partition(",")
    if not comma:
        return sorted((name, "") for name in type_names())
    options = options_of(kind) if kind in type_names() else []
    keys = [("id=", "its name"), *((f"{option.name}=", written(option)) for option in options)]
    return behind(",", place.typed, unused(keys, place.typed))


async def _drive_options(place: Place) -> list[Choice]:
    head, _, part = place.typed.rpartition(",")
    if part.startswith("file="):
        files = _files(part.removeprefix("file="))
        return behind(",", place.typed, [(f"file={name}", meaning) for name, meaning in files])
    return behind(",", place.typed, unused(DRIVE_OPTIONS.items(), f"{head},"))


async def _trace_events(place: Place) -> list[Choice]:
    events: list[dict[str, Any]] = await place.ask("trace-event-get-state", {"name": "*"})
    return sorted((event["name"], event["state"]) for event in events)


async def _log_items(place: Place) -> list[Choice]:
    items = {name: item.meaning for name, item in LOG_ITEMS.items()}
    words = {ALL: "all items", NONE: "no items", TRACE_PREFIX: "trace events that match a pattern"}
    return behind(",", place.typed, _sorted(items | words))


async def _objects(place: Place) -> list[Choice]:
    if place.is_on_qemu:
        return await qemu_names.objects(place)
    made: list[dict[str, Any]] = await place.ask("x-qmon-query-objects")
    return sorted((each["id"], each["qom-type"]) for each in made)


async def _chardevs(place: Place) -> list[Choice]:
    found: list[dict[str, Any]] = await place.ask("query-chardev")
    return sorted((each["label"], each["filename"]) for each in found)


async def _ring_buffers(place: Place) -> list[Choice]:
    return [choice for choice in await _chardevs(place) if choice[1] in ("ringbuf", "memory")]


async def _chardev_kinds(place: Place) -> list[Choice]:
    kinds: list[dict[str, str]] = await place.ask("query-chardev-backends")
    return sorted((kind["name"], "") for kind in kinds)


async def _qmp_commands(place: Place) -> list[Choice]:
    return sorted((name, "") for name in place.target.commands())


async def _awaited_jobs(place: Place) -> list[Choice]:
    if place.values.get("what") != "job":
        return []
    if "query-jobs" not in place.target.commands():
        return await _jobs(place)
    jobs: list[dict[str, Any]] = await place.ask("query-jobs")
    return sorted(
        (
            job["id"],
            f"{job['type']}, {job['status']}, {_share(job['current-progress'], job['total-progress'])}",
        )
        for job in jobs
    )


async def _nothing(place: Place) -> list[Choice]:
    return []


_COMPLETERS: dict[tuple[str | None, str | None], Completer] = {
    ("chardev_add_completion", None): _chardev_kinds,
    ("chardev_remove_completion", "id"): _chardevs,
    ("chardev_remove_completion", None): _nothing,
    ("delvm_completion", None): _snapshots,
    ("info_trace_events_completion", "name"): _trace_events,
    ("loadvm_completion", None): _snapshots,
    ("migrate_resolve_completion", None): _resolutions,
    ("migrate_set_capability_completion", "capability"): _capabilities,
    ("migrate_set_capability_completion", None): _switch,
    ("migrate_set_parameter_completion", "parameter"): _parameters,
    ("migrate_set_parameter_completion", "value"): _parameter_values,
    ("nbd_server_remove_completion", None): _exports,
    ("object_add_completion", None): _new_object,
    ("object_del_completion", None): _objects,
    ("device_add_completion", None): qemu_names.new_device,
    ("device_del_completion", None): qemu_names.devices,
    ("netdev_add_completion", None): qemu_names.new_netdev,
    ("set_link_completion", "name"): qemu_names.cards,
    ("qmp_completion", "name"): _qmp_commands,
    ("ringbuf_write_completion", "device"): _ring_buffers,
    ("trace_event_completion", "name"): _trace_events,
    ("wait_completion", "id"): _awaited_jobs,
    ("yank_completion", None): qemu_names.stuck,
}
"""Completers by the table's ``.command_completion`` and a parameter's key; None: all other parameters."""

_OF_VIRTIO = ("status", "queue-status", "vhost-queue-status", "queue-element")

_BY_KEY: dict[tuple[str, str], Completer] = {
    **{(f"block_job_{verb}", "device"): _jobs for verb in ("cancel", "complete", "pause", "resume")},
    ("block_job_set_speed", "device"): _jobs,
    **{(f"migrate{verb}", "uri"): _addresses for verb in ("", "_incoming", "_recover")},
    ("cpu", "index"): qemu_names.cpus,
    ("drive_add", "opts"): _drive_options,
    **{(f"info virtio-{what}", "path"): qemu_names.virtio_devices for what in _OF_VIRTIO},
    ("mouse_set", "index"): qemu_names.mice,
    **{(f"qom-{verb}", "path"): qemu_names.tree_path for verb in ("list", "get", "set")},
    **{(f"qom-{verb}", "property"): qemu_names.tree_property for verb in ("get", "set")},
    ("info qom-tree", "path"): qemu_names.tree_path,
    ("log", "items"): _log_items,
    ("snapshot_delete_blkdev_internal", "name"): _snapshots,
}
"""Completers for commands without a ``.command_completion`` in the table."""
