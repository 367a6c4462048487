"""What a machine without a guest has nothing of, as data: the answers are those of QEMU with ``-M none``.

A command that does something is a function in a family of its own, never a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from qmon.errors import CommandError
from qmon.qmp.registry import CommandFunction, Registry
from qmon.qmp.schema import Signature, Uint8, Uint16, Uint32, Uint64


@dataclass(frozen=True, slots=True)
class Absent:
    """A command that fails with ``desc``, once its arguments are right; ``{id}`` there is an argument's.

    ``parameters``: QMP's names to annotations as ``qmon.qmp.schema`` has them; ``T | None`` may be left out.
    """

    desc: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    error_class: str = CommandError.error_class


ABSENT_QUERIES: dict[str, Any] = {
    # CPU and memory
    "query-cpus-fast": [],
    "query-current-machine": {"wakeup-suspend-support": False},
    "query-dump-guest-memory-capability": {"formats": ["elf", "kdump-zlib", "win-dmp"]},
    "query-kvm": {"enabled": False, "present": True},
    "query-memory-devices": [],
    "query-memory-size-summary": {"base-memory": 0, "plugged-memory": 0},
    "query-replay": {"icount": 0, "mode": "none"},
    "query-sev": {
        "enabled": False,
        "api-major": 0,
        "api-minor": 0,
        "build-id": 0,
        "policy": 0,
        "state": "uninit",
        "handle": 0,
    },
    "query-tpm": [],
    "query-tpm-models": [],
    "query-tpm-types": [],
    "x-query-irq": {"human-readable-text": ""},
    "x-query-numa": {"human-readable-text": "0 nodes\n"},
    "x-query-opcount": {"human-readable-text": "[TCG profiler not compiled]\n"},
    "x-query-ramblock": {
        "human-readable-text": (
            "              Block Name    PSize              Offset               Used              Total\n"
        )
    },
    "x-query-roms": {"human-readable-text": ""},
    # Devices
    "query-pci": [],
    "x-query-rdma": {"human-readable-text": ""},
    "x-query-virtio": [],
    # Screens, mice and sound
    "query-display-options": {"type": "none"},
    "query-mice": [],
    "query-spice": {"migrated": False, "enabled": False, "mouse-mode": "client"},
    "query-vnc": {"enabled": False},
    "query-vnc-servers": [],
    # Migration
    "query-colo-status": {"last-mode": "none", "mode": "none", "reason": "none"},
    "query-vcpu-dirty-limit": [],
}
"""A query without arguments to what it always answers."""

_NO_VIRTIO = "Path {path} is not a VirtIODevice"
_NO_ROCKER = "rocker {name} not found"
_NO_XEN = "Xen event channel emulation not enabled"
_NO_BALLOON = "No balloon device has been activated"

ABSENT_COMMANDS: dict[str, Absent] = {
    # CPU and memory
    "balloon": Absent(_NO_BALLOON, {"value": int}, "DeviceNotActive"),
    "dumpdtb": Absent("This machine doesn't have a FDT", {"filename": str}),
    "memsave": Absent(
        "Parameter 'cpu-index' expects a CPU number",
        {"val": int, "size": int, "filename": str, "cpu-index": int | None},
    ),
    "query-acpi-ospm-status": Absent("command is not supported, missing ACPI device"),
    "query-balloon": Absent(_NO_BALLOON, error_class="DeviceNotActive"),
    "query-hotpluggable-cpus": Absent("The feature 'query-hotpluggable-cpus' is not enabled"),
    "query-sev-attestation-report": Absent("SEV is not enabled", {"mnonce": str}),
    "query-sev-capabilities": Absent("KVM not enabled"),
    "query-sev-launch-measure": Absent("SEV launch measurement is not available"),
    "query-sgx": Absent("SGX is only supported on PC machines"),
    "query-sgx-capabilities": Absent("SGX is not enabled in KVM"),
    "query-vm-generation-id": Absent("VM Generation ID device not found"),
    "replay-break": Absent("setting the breakpoint is allowed only in play mode", {"icount": int}),
    "replay-delete-break": Absent("replay breakpoints are allowed only in play mode"),
    "replay-seek": Absent("replay must be enabled to seek", {"icount": int}),
    "sev-inject-launch-secret": Absent(
        "SEV not enabled for guest", {"packet-header": str, "secret": str, "gpa": Uint64 | None}
    ),
    "x-exit-preconfig": Absent("The command is permitted only before machine initialization"),
    "x-query-jit": Absent("JIT information is only available with accel=tcg"),
    "x-query-profile": Absent("Internal profiler not compiled"),
    # Running
    "inject-nmi": Absent("this feature or command is not currently supported"),
    "system_wakeup": Absent("wake-up from suspend is not supported by this guest"),
    # Devices
    "x-query-usb": Absent("USB support not enabled"),
    "x-query-virtio-status": Absent(_NO_VIRTIO, {"path": str}),
    "x-query-virtio-queue-status": Absent(_NO_VIRTIO, {"path": str, "queue": Uint16}),
    "x-query-virtio-vhost-queue-status": Absent(_NO_VIRTIO, {"path": str, "queue": Uint16}),
    "x-query-virtio-queue-element": Absent(
        "Path {path} is not a VirtIO device", {"path": str, "queue": Uint16, "index": Uint16 | None}
    ),
    "xen-event-inject": Absent(_NO_XEN, {"port": Uint32}),
    "xen-event-list": Absent(_NO_XEN),
    # Networks
    "netdev_del": Absent("Device '{id}' not found", {"id": str}, "DeviceNotFound"),
    "query-rocker": Absent(_NO_ROCKER, {"name": str}),
    "query-rocker-ports": Absent(_NO_ROCKER, {"name": str}),
    "query-rocker-of-dpa-flows": Absent(_NO_ROCKER, {"name": str, "tbl-id": Uint32 | None}),
    "query-rocker-of-dpa-groups": Absent(_NO_ROCKER, {"name": str, "type": Uint8 | None}),
    "set_link": Absent("Device '{name}' not found", {"name": str, "up": bool}, "DeviceNotFound"),
    # Screens, mice and sound
    "change-vnc-password": Absent("Could not set password", {"password": str}),
    # Migration
    "migrate-pause": Absent("migrate-pause is currently only supported during postcopy-active state"),
    "migrate-recover": Absent("Migrate recover can only be run when postcopy is paused.", {"uri": str}),
    "x-colo-lost-heartbeat": Absent("The feature 'colo' is not enabled"),
}
"""A command, or a query that fails, to its error."""


class AbsentCommands:
    """The rows of both tables as commands."""

    def __init__(
        self,
        queries: Mapping[str, Any] = ABSENT_QUERIES,
        commands: Mapping[str, Absent] = ABSENT_COMMANDS,
    ) -> None:
        self._queries = queries
        self._commands = commands

    def register(self, registry: Registry) -> None:
        """Serve every row."""
        for name, answer in self._queries.items():
            registry.add_described(name, _answering(answer), Signature.of({}))
        for name, row in self._commands.items():
            registry.add_described(name, _failing(row), Signature.of(row.parameters))


def _answering(answer: Any) -> CommandFunction:
    async def query() -> Any:
        return deepcopy(answer)  # whoever asks may change what it gets

    return query


def _failing(row: Absent) -> CommandFunction:
    async def fail(**arguments: Any) -> Any:
        raise CommandError(row.desc.format_map(arguments), row.error_class)

    return fail
