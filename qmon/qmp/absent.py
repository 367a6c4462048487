"""What a machine without a guest answers to commands about a CPU, memory, devices, networks or a screen.

One row per command. The embedded machine answers QMP commands from it, and the monitor answers lines from it
where the target has no monitor of its own. Where QEMU with ``-M none`` answers with one fixed text, the row
has that text. A command that does something here has a function of its own and no row. A QMP command that
always fails is not offered, so that clients see in ``query-commands`` what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any

from qmon.errors import CommandError


@dataclass(frozen=True, slots=True)
class Row:
    """``qmp`` is the QMP command and ``hmp`` the table's ``.cmd`` functions; either may be missing.

    The command fails with ``fails``; where that is empty, QMP returns ``answer`` and the monitor prints
    ``says``. ``{id}`` in ``fails`` is the argument of that name. The monitor prints ``Error: `` before the
    error of a QMP command, unless ``bare``. ``offered`` is why a QMP command that always fails is offered all
    the same.
    """

    qmp: str = ""
    hmp: str = ""
    fails: str = ""
    answer: Any = None
    says: str = ""
    bare: bool = False
    error_class: str = CommandError.error_class
    offered: str = ""

    @property
    def is_offered(self) -> bool:
        """Whether QMP clients get the command."""
        return bool(self.qmp) and not (self.fails and not self.offered)

    @property
    def text(self) -> str:
        """What the monitor prints, with its placeholders."""
        if not self.fails:
            return self.says
        return self.fails if self.bare or not self.qmp else f"Error: {self.fails}"

    @property
    def placeholders(self) -> frozenset[str]:
        """The arguments that the error names."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.fails) if name)


_TEXT = "human-readable-text"

_NO_CPU = "this machine has no CPU"
_NO_MEMORY = "this machine has no memory"
_NO_DEVICES = "this machine has no device bus"
_NO_TREE = "this machine has no object tree"
_NO_NETWORK = "this machine has no network"
_NO_SCREEN = "this machine has no screen, keyboard or mouse"
_NO_SOUND = "this machine has no sound"
_NO_S390X = "this machine is not an S390 one: it has no storage keys"
_NO_PROFILE = "qmon does not measure how long it waits for locks"
_NO_CPU_AVAILABLE = "No CPU available"
_NO_BALLOON = "No balloon device has been activated"
_NO_VIRTIO = "Path {path} is not a VirtIODevice"
_NO_ROCKER = "rocker {name} not found"
_NO_XEN = "Xen event channel emulation not enabled"
_NO_SPICE = "SPICE is not in use"
_NO_FORWARDING = "user mode network stack not in use"
_NO_DIRTY_LIMIT = "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'"
_SEE_DIRTY_LIMIT = "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]"
_NOT_FOUND = "DeviceNotFound"
_NOT_ACTIVE = "DeviceNotActive"

_CPU = (
    Row("query-cpus-fast", "hmp_info_cpus", answer=[]),
    Row(
        "query-kvm", "hmp_info_kvm", answer={"enabled": False, "present": True}, says="kvm support: disabled"
    ),
    Row(
        "query-replay",
        "hmp_info_replay",
        answer={"icount": 0, "mode": "none"},
        says="Record/replay is not active",
    ),
    Row(
        "query-sev",
        "hmp_info_sev",
        answer={
            "enabled": False,
            "api-major": 0,
            "api-minor": 0,
            "build-id": 0,
            "policy": 0,
            "state": "uninit",
            "handle": 0,
        },
        says="SEV is not enabled",
    ),
    Row("query-stats", "hmp_info_stats", answer=[]),
    Row("query-stats-schemas", answer=[]),
    Row("query-tpm", "hmp_info_tpm", answer=[]),
    Row("query-tpm-models", answer=[]),
    Row("query-tpm-types", answer=[]),
    Row("query-current-machine", answer={"wakeup-suspend-support": False}),
    Row("x-query-irq", answer={_TEXT: ""}),
    Row("x-query-opcount", answer={_TEXT: "[TCG profiler not compiled]\n"}),
    Row("query-acpi-ospm-status", fails="command is not supported, missing ACPI device"),
    Row(
        "query-hotpluggable-cpus",
        "hmp_hotpluggable_cpus",
        fails="The feature 'query-hotpluggable-cpus' is not enabled",
    ),
    Row("query-sev-attestation-report", fails="SEV is not enabled"),
    Row("query-sev-capabilities", fails="KVM not enabled"),
    Row("query-sev-launch-measure", fails="SEV launch measurement is not available"),
    Row("sev-inject-launch-secret", fails="SEV not enabled for guest"),
    Row("query-sgx", "hmp_info_sgx", fails="SGX is only supported on PC machines", bare=True),
    Row("query-sgx-capabilities", fails="SGX is not enabled in KVM"),
    Row("query-vm-generation-id", "hmp_info_vm_generation_id", fails="VM Generation ID device not found"),
    Row(
        "replay-break",
        "hmp_replay_break",
        fails="setting the breakpoint is allowed only in play mode",
        bare=True,
    ),
    Row(
        "replay-delete-break",
        "hmp_replay_delete_break",
        fails="replay breakpoints are allowed only in play mode",
        bare=True,
    ),
    Row("replay-seek", "hmp_replay_seek", fails="replay must be enabled to seek", bare=True),
    Row(
        "x-exit-preconfig",
        "hmp_exit_preconfig",
        fails="The command is permitted only before machine initialization",
    ),
    Row("x-query-jit", fails="JIT information is only available with accel=tcg"),
    Row("x-query-profile", fails="Internal profiler not compiled"),
    Row("inject-nmi", "hmp_nmi", fails="this feature or command is not currently supported"),
    Row("system_wakeup", "hmp_system_wakeup", fails="wake-up from suspend is not supported by this guest"),
    Row(hmp="hmp_boot_set", fails="no function defined to set boot device list for this architecture"),
    Row(hmp="hmp_cpu", fails="invalid CPU index"),
    Row(
        hmp="hmp_info_local_apic hmp_info_mem hmp_info_registers hmp_info_tlb hmp_memsave",
        fails=_NO_CPU_AVAILABLE,
    ),
    Row(hmp="hmp_memory_dump", fails="Can not dump without CPU"),
    Row(hmp="hmp_info_pic"),
    Row(hmp="hmp_gva2gpa", fails="No cpu"),
    Row(hmp="hmp_gdbserver", fails="gdbstub: meaningless to attach gdb to a machine without any CPU."),
    Row(hmp="hmp_mce hmp_one_insn_per_tb hmp_singlestep", fails=_NO_CPU),
    Row(hmp="hmp_info_cmma hmp_info_skeys hmp_dump_skeys", fails=_NO_S390X),
    Row(hmp="hmp_info_via", fails="this machine has no VIA chip"),
    Row(hmp="hmp_sync_profile", fails=_NO_PROFILE),
    Row(hmp="hmp_info_sync_profile", says=_NO_PROFILE),
    Row(hmp="hmp_trace_file", fails="trace-file: trace events are written to the log: use logfile"),
)

_MEMORY = (
    Row("balloon", "hmp_balloon", fails=_NO_BALLOON, error_class=_NOT_ACTIVE),
    Row(
        "query-balloon",
        "hmp_info_balloon",
        fails=_NO_BALLOON,
        error_class=_NOT_ACTIVE,
        offered="libvirt takes this error for a guest without a balloon, and any other for a failure",
    ),
    Row("dumpdtb", "hmp_dumpdtb", fails="This machine doesn't have a FDT"),
    Row("dump-guest-memory", "hmp_dump_guest_memory", fails="dump: no guest memory to dump"),
    Row(
        "query-dump",
        "hmp_info_dump",
        answer={"status": "none", "completed": 0, "total": 0},
        says="Status: none",
    ),
    Row("query-dump-guest-memory-capability", answer={"formats": ["elf", "kdump-zlib", "win-dmp"]}),
    Row("memsave", fails="Parameter 'cpu-index' expects a CPU number"),
    Row("pmemsave", "hmp_pmemsave", fails=_NO_MEMORY),
    Row("query-memdev", "hmp_info_memdev", answer=[]),
    Row("query-memory-devices", "hmp_info_memory_devices", answer=[]),
    Row(
        "query-memory-size-summary",
        "hmp_info_memory_size_summary",
        answer={"base-memory": 0, "plugged-memory": 0},
        says="base memory: 0\nplugged memory: 0",
    ),
    Row("x-query-numa", answer={_TEXT: "0 nodes\n"}),
    Row(
        "x-query-ramblock",
        answer={
            _TEXT: f"{'Block Name':>24} {'PSize':>8} {'Offset':>19} {'Used':>18} {'Total':>18}\n",
        },
    ),
    Row("x-query-roms", answer={_TEXT: ""}),
    Row(hmp="hmp_gpa2hpa hmp_gpa2hva hmp_physical_memory_dump hmp_sum", fails=_NO_MEMORY),
    Row(hmp="hmp_ioport_read hmp_ioport_write", fails="this machine has no I/O ports"),
    Row(hmp="hmp_info_mtree", says=_NO_MEMORY),
)

_MIGRATION = (
    Row("announce-self", "hmp_announce_self", answer={}),
    Row("calc-dirty-rate", "hmp_calc_dirty_rate", fails=_NO_MEMORY),
    Row("set-vcpu-dirty-limit", "hmp_set_vcpu_dirty_limit", fails=_NO_DIRTY_LIMIT),
    Row("cancel-vcpu-dirty-limit", "hmp_cancel_vcpu_dirty_limit", answer={}, says=_SEE_DIRTY_LIMIT),
    Row(
        "query-vcpu-dirty-limit", "hmp_info_vcpu_dirty_limit", answer=[], says="Dirty page limit not enabled!"
    ),
    Row(
        "query-dirty-rate",
        "hmp_info_dirty_rate",
        answer={
            "status": "unstarted",
            "sample-pages": 0,
            "mode": "page-sampling",
            "start-time": 0,
            "calc-time": 0,
        },
        says=(
            "Status: unstarted\nStart Time: 0 (ms)\nSample Pages: 0 (per GB)\nPeriod: 0 (sec)\n"
            "Mode: page-sampling\nDirty rate: (not ready)"
        ),
    ),
    Row("query-colo-status", answer={"last-mode": "none", "mode": "none", "reason": "none"}),
    Row("x-colo-lost-heartbeat", "hmp_x_colo_lost_heartbeat", fails="The feature 'colo' is not enabled"),
    Row(hmp="hmp_migrationmode", fails="migration_mode: this machine has no storage attributes device"),
)

_DEVICES = (
    Row("device_add", "hmp_device_add", fails=_NO_DEVICES),
    Row("device_del", "hmp_device_del", fails="Device '{id}' not found", error_class=_NOT_FOUND),
    Row("query-pci", "hmp_info_pci", answer=[]),
    Row("x-query-rdma", answer={_TEXT: ""}),
    Row("x-query-usb", fails="USB support not enabled"),
    Row("x-query-virtio", "hmp_virtio_query", answer=[], says="No VirtIO devices"),
    Row("x-query-virtio-status", "hmp_virtio_status", fails=_NO_VIRTIO),
    Row("x-query-virtio-queue-status", "hmp_virtio_queue_status", fails=_NO_VIRTIO),
    Row("x-query-virtio-vhost-queue-status", "hmp_vhost_queue_status", fails=_NO_VIRTIO),
    Row(
        "x-query-virtio-queue-element",
        "hmp_virtio_queue_element",
        fails="Path {path} is not a VirtIO device",
    ),
    Row("xen-event-inject", "hmp_xen_event_inject", fails=_NO_XEN),
    Row("xen-event-list", "hmp_xen_event_list", fails=_NO_XEN),
    Row("qom-get", "hmp_qom_get", fails=_NO_TREE),
    Row("qom-set", "hmp_qom_set", fails=_NO_TREE),
    Row("qom-list", "hmp_qom_list", fails=_NO_TREE),
    Row("qom-list-properties", fails=_NO_TREE),
    Row("qom-list-types", fails=_NO_TREE),
    Row("query-iothreads", "hmp_info_iothreads", answer=[]),
    Row(hmp="hmp_info_cryptodev hmp_info_qdm hmp_info_usbhost"),
    Row(hmp="hmp_info_qom_tree", says=_NO_TREE),
    Row(hmp="hmp_info_qtree", says="bus: main-system-bus\n  type System"),
    Row(
        hmp="hmp_pcie_aer_inject_error",
        fails="id or pci device path is invalid or device not found. {id}",
    ),
)

_NETWORKS = (
    Row("netdev_add", "hmp_netdev_add", fails=_NO_NETWORK),
    Row("netdev_del", "hmp_netdev_del", fails="Device '{id}' not found", error_class=_NOT_FOUND),
    Row("set_link", "hmp_set_link", fails="Device '{name}' not found", error_class=_NOT_FOUND),
    Row("query-rx-filter", answer=[]),
    Row("query-rocker", "hmp_rocker", fails=_NO_ROCKER),
    Row("query-rocker-ports", "hmp_rocker_ports", fails=_NO_ROCKER),
    Row("query-rocker-of-dpa-flows", "hmp_rocker_of_dpa_flows", fails=_NO_ROCKER),
    Row("query-rocker-of-dpa-groups", "hmp_rocker_of_dpa_groups", fails=_NO_ROCKER),
    Row(hmp="hmp_hostfwd_add hmp_hostfwd_remove", fails=_NO_FORWARDING),
    Row(hmp="hmp_info_network hmp_info_usernet"),
)

_SCREENS = (
    Row("send-key", "hmp_sendkey", fails=_NO_SCREEN),
    Row("input-send-event", fails=_NO_SCREEN),
    Row("screendump", "hmp_screendump", fails="There is no console to take a screendump from"),
    Row("set_password", "hmp_set_password", fails="Could not set password"),
    Row("expire_password", "hmp_expire_password", fails="Could not set password expire time"),
    Row("change-vnc-password", fails="Could not set password"),
    Row("client_migrate_info", "hmp_client_migrate_info", fails=_NO_SPICE, error_class=_NOT_ACTIVE),
    Row("query-display-options", answer={"type": "none"}),
    Row("query-mice", "hmp_info_mice", answer=[], says="No mouse devices connected"),
    Row(
        "query-spice",
        "hmp_info_spice",
        answer={"migrated": False, "enabled": False, "mouse-mode": "client"},
        says="Server: disabled",
    ),
    Row("query-vnc", answer={"enabled": False}),
    Row("query-vnc-servers", "hmp_info_vnc", answer=[], says="None"),
    Row(hmp="hmp_mouse_button hmp_mouse_move hmp_mouse_set", fails=_NO_SCREEN),
    Row(hmp="hmp_wavcapture", fails="Audiodev '{audiodev}' not found"),
    Row(hmp="hmp_stopcapture", fails=_NO_SOUND),
    Row(hmp="hmp_info_capture"),
)

ABSENT: tuple[Row, ...] = (*_CPU, *_MEMORY, *_MIGRATION, *_DEVICES, *_NETWORKS, *_SCREENS)
"""The one table."""

REFUSALS: dict[str, str] = {row.qmp: row.fails for row in ABSENT if row.qmp and row.fails}
"""Why a QMP command of QEMU's always fails here, by its name."""
