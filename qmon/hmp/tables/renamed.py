"""The names that the functions of today's tables had in older releases of QEMU, back to 2009.

Only names: ``given`` compares the arguments of an old entry with today's. A ``qmp_`` name is one of
``.cmd_info_hrt``.
"""

from __future__ import annotations

_PREFIXED = """
    balloon block_resize block_set_io_throttle boot_set change closefd commit cont delvm device_add
    device_del drive_del eject getfd ioport_read ioport_write loadvm log logfile memory_dump
    migrate migrate_cancel migrate_set_downtime migrate_set_speed mouse_button mouse_move mouse_set
    netdev_add netdev_del pcie_aer_inject_error physical_memory_dump print quit savevm sendkey set_link
    singlestep snapshot_blkdev stop sum system_powerdown system_reset trace_file watchdog_action
"""
"""``do_NAME`` became ``hmp_NAME``."""

_OTHERWISE = {
    "client_migrate_info": "hmp_client_migrate_info",
    "do_change_trace_event_state": "hmp_trace_event",
    "do_cpu_set": "hmp_cpu",
    "do_help_cmd": "hmp_help",
    "do_info": "hmp_info_help",
    "do_info_help": "hmp_info_help",
    "do_inject_mce": "hmp_mce",
    "do_inject_nmi": "hmp_nmi",
    "do_memory_save": "hmp_memsave",
    "do_pcie_aer_inejct_error": "hmp_pcie_aer_inject_error",
    "do_physical_memory_save": "hmp_pmemsave",
    "do_screen_dump": "hmp_screendump",
    "do_stop_capture": "hmp_stopcapture",
    "do_trace_event_set_state": "hmp_trace_event",
    "do_wav_capture": "hmp_wavcapture",
    "drive_hot_add": "hmp_drive_add",
    "expire_password": "hmp_expire_password",
    "help_cmd": "hmp_help",
    "hmp_info_irq": "qmp_x_query_irq",
    "hmp_info_numa": "qmp_x_query_numa",
    "hmp_info_profile": "qmp_x_query_profile",
    "hmp_info_ramblock": "qmp_x_query_ramblock",
    "hmp_info_rdma": "qmp_x_query_rdma",
    "hmp_info_roms": "qmp_x_query_roms",
    "hmp_info_usb": "qmp_x_query_usb",
    "hmp_inject_nmi": "hmp_nmi",
    "net_slirp_hostfwd_add": "hmp_hostfwd_add",
    "net_slirp_hostfwd_remove": "hmp_hostfwd_remove",
    "set_password": "hmp_set_password",
}

RENAMED: dict[str, str] = {f"do_{name}": f"hmp_{name}" for name in _PREFIXED.split()} | _OTHERWISE
