HXCOMM What ``info`` can show. The format is that of hmp-commands.hx.

DEFHEADING(The program and the machine)

    {
        .name       = "version",
        .args_type  = "",
        .params     = "",
        .help       = "tell the program's version",
        .cmd        = hmp_info_version,
        .flags      = "p",
    },

SRST
``info version``
  Tell the program's version.
ERST

    {
        .name       = "name",
        .args_type  = "",
        .params     = "",
        .help       = "tell the machine's name, if it has one",
        .cmd        = hmp_info_name,
        .flags      = "p",
    },

SRST
``info name``
  Tell the name that was given by ``-name``.
ERST

    {
        .name       = "uuid",
        .args_type  = "",
        .params     = "",
        .help       = "tell the machine's UUID",
        .cmd        = hmp_info_uuid,
        .flags      = "p",
    },

SRST
``info uuid``
  Tell the UUID that was given by ``-uuid``, else one of zeros.
ERST

    {
        .name       = "status",
        .args_type  = "",
        .params     = "",
        .help       = "tell whether the machine runs, and why not",
        .cmd        = hmp_info_status,
        .flags      = "p",
    },

SRST
``info status``
  Tell whether the machine runs or is paused, and why it is paused.
ERST

    {
        .name       = "history",
        .args_type  = "",
        .params     = "",
        .help       = "list the lines that this monitor was given",
        .cmd        = hmp_info_history,
        .flags      = "p",
    },

SRST
``info history``
  List the lines that were typed into this monitor, numbered, oldest first.
ERST

    {
        .name       = "kvm",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_kvm,
    },

SRST
ERST

    {
        .name       = "numa",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd_info_hrt= qmp_x_query_numa,
    },

SRST
ERST

    {
        .name       = "sev",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_sev,
    },

SRST
ERST

    {
        .name       = "sgx",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_sgx,
    },

SRST
ERST

    {
        .name       = "vm-generation-id",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_vm_generation_id,
    },

SRST
ERST

#if defined(CONFIG_MOS6522)
    {
        .name       = "via",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_via,
    },
#endif

SRST
ERST

    {
        .name       = "tpm",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_tpm,
    },

SRST
ERST

DEFHEADING(Drives)

    {
        .name       = "block",
        .args_type  = "nodes:-n,verbose:-v,device:B?",
        .params     = "[-n] [-v] [device]",
        .help       = "list drives, or only one (-n: nodes instead; -v: images in detail)",
        .cmd        = hmp_info_block,
        .flags      = "p",
    },

SRST
``info block`` [``-n``] [``-v``] [*device*]
  List the drives with their images, or only *device*. ``-n`` lists nodes instead, ``-v`` adds
  size and format of each image.
ERST

    {
        .name       = "blockstats",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_blockstats,
    },

SRST
ERST

    {
        .name       = "block-jobs",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_block_jobs,
    },

SRST
ERST

    {
        .name       = "snapshots",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_snapshots,
    },

SRST
ERST

DEFHEADING(Migration)

    {
        .name       = "migrate",
        .args_type  = "",
        .params     = "",
        .help       = "tell how far a migration is, or how it ended",
        .cmd        = hmp_info_migrate,
    },

SRST
``info migrate``
  Tell the state of the migration, its times, and how much of the disks was and is to be sent.
  On the destination: what has arrived.
ERST

    {
        .name       = "migrate_capabilities",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_migrate_capabilities,
    },

SRST
ERST

    {
        .name       = "migrate_parameters",
        .args_type  = "",
        .params     = "",
        .help       = "list the parameters of migrations with their values",
        .cmd        = hmp_info_migrate_parameters,
    },

SRST
``info migrate_parameters``
  List the parameters that ``migrate_set_parameter`` sets.
ERST

    {
        .name       = "dirty_rate",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_dirty_rate,
    },

SRST
ERST

    {
        .name       = "vcpu_dirty_limit",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_vcpu_dirty_limit,
    },

SRST
ERST

    {
        .name       = "dump",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_dump,
    },

SRST
ERST

DEFHEADING(Objects and character devices)

    {
        .name       = "chardev",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_chardev,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "qom-tree",
        .args_type  = "path:s?",
        .params     = "[path]",
        .help       = "",
        .cmd        = hmp_info_qom_tree,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "memdev",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_memdev,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "iothreads",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_iothreads,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "cryptodev",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_cryptodev,
        .flags      = "p",
    },

SRST
ERST

DEFHEADING(CPU and memory)

    {
        .name       = "cpus",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_cpus,
    },

SRST
ERST

    {
        .name       = "registers",
        .args_type  = "cpustate_all:-a,vcpu:i?",
        .params     = "[-a|vcpu]",
        .help       = "",
        .cmd        = hmp_info_registers,
    },

SRST
ERST

    {
        .name       = "lapic",
        .args_type  = "apic-id:i?",
        .params     = "[apic-id]",
        .help       = "",
        .cmd        = hmp_info_local_apic,
    },

SRST
ERST

    {
        .name       = "mem",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_mem,
    },

SRST
ERST

    {
        .name       = "tlb",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_tlb,
    },

SRST
ERST

    {
        .name       = "mtree",
        .args_type  = "flatview:-f,dispatch_tree:-d,owner:-o,disabled:-D",
        .params     = "[-f][-d][-o][-D]",
        .help       = "",
        .cmd        = hmp_info_mtree,
    },

SRST
ERST

    {
        .name       = "memory-devices",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_memory_devices,
    },

SRST
ERST

    {
        .name       = "memory_size_summary",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_memory_size_summary,
    },

SRST
ERST

    {
        .name       = "hotpluggable-cpus",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_hotpluggable_cpus,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "ramblock",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd_info_hrt= qmp_x_query_ramblock,
    },

SRST
ERST

    {
        .name       = "roms",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd_info_hrt= qmp_x_query_roms,
    },

SRST
ERST

    {
        .name       = "jit",
        .args_type  = "",
        .params     = "",
        .help       = "",
    },

SRST
ERST

    {
        .name       = "opcount",
        .args_type  = "",
        .params     = "",
        .help       = "",
    },

SRST
ERST

    {
        .name       = "profile",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd_info_hrt= qmp_x_query_profile,
    },

SRST
ERST

    {
        .name       = "sync-profile",
        .args_type  = "mean:-m,no_coalesce:-n,max:i?",
        .params     = "[-m] [-n] [max]",
        .help       = "",
        .cmd        = hmp_info_sync_profile,
    },

SRST
ERST

    {
        .name       = "replay",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_replay,
    },

SRST
ERST

    {
        .name       = "balloon",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_balloon,
    },

SRST
ERST

#if defined(TARGET_S390X)
    {
        .name       = "skeys",
        .args_type  = "addr:l",
        .params     = "address",
        .help       = "",
        .cmd        = hmp_info_skeys,
    },
#endif

SRST
ERST

#if defined(TARGET_S390X)
    {
        .name       = "cmma",
        .args_type  = "addr:l,count:l?",
        .params     = "address [count]",
        .help       = "",
        .cmd        = hmp_info_cmma,
    },
#endif

SRST
ERST

    {
        .name       = "stats",
        .args_type  = "target:s,names:s?,provider:s?",
        .params     = "target [names] [provider]",
        .help       = "",
        .cmd        = hmp_info_stats,
    },

SRST
ERST

    {
        .name       = "trace-events",
        .args_type  = "name:s?,vcpu:i?",
        .params     = "[name] [vcpu]",
        .help       = "",
        .cmd        = hmp_info_trace_events,
        .command_completion = info_trace_events_completion,
    },

SRST
ERST

    {
        .name       = "irq",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd_info_hrt= qmp_x_query_irq,
    },

SRST
ERST

    {
        .name       = "pic",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_info_pic,
    },

SRST
ERST

DEFHEADING(Devices)

    {
        .name       = "qtree",
        .args_type  = "",
        .params     = "",
        .help       = "show the tree of buses and devices",
        .cmd        = hmp_info_qtree,
    },

SRST
``info qtree``
  Show the buses, the devices on them and their properties. The embedded machine has the bus that each
  machine has, and nothing on it::

    (qemu) info qtree
    bus: main-system-bus
      type System
ERST

    {
        .name       = "qdm",
        .args_type  = "",
        .params     = "",
        .help       = "list the models of devices",
        .cmd        = hmp_info_qdm,
    },

SRST
``info qdm``
  List the device models that the program has. The embedded machine has none, and prints nothing where a
  QEMU lists its own.
ERST

    {
        .name       = "pci",
        .args_type  = "",
        .params     = "",
        .help       = "list what is on the PCI buses",
        .cmd        = hmp_info_pci,
    },

SRST
``info pci``
  List the PCI buses and their devices. The embedded machine has none and prints nothing.
ERST

    {
        .name       = "usb",
        .args_type  = "",
        .params     = "",
        .help       = "list the USB devices",
        .cmd_info_hrt= qmp_x_query_usb,
    },

SRST
``info usb``
  List the guest's USB devices. The embedded machine has no USB::

    (qemu) info usb
    Error: USB support not enabled
ERST

    {
        .name       = "usbhost",
        .args_type  = "",
        .params     = "",
        .help       = "list the host's USB devices that a guest could have",
        .cmd        = hmp_info_usbhost,
    },

SRST
``info usbhost``
  List the host's USB devices. The embedded machine could hand none of them on and prints nothing.
ERST

    {
        .name       = "virtio",
        .args_type  = "",
        .params     = "",
        .help       = "list the virtio devices",
        .cmd        = hmp_virtio_query,
        .flags      = "p",
    },

SRST
``info virtio``
  List the virtio devices by their paths::

    (qemu) info virtio
    No VirtIO devices
ERST

    {
        .name       = "virtio-status",
        .args_type  = "path:s",
        .params     = "path",
        .help       = "show the state of a virtio device",
        .cmd        = hmp_virtio_status,
        .flags      = "p",
    },

SRST
``info virtio-status`` *path*
  Show the state and the features of the virtio device *path*. The embedded machine has none::

    (qemu) info virtio-status /machine/peripheral-anon/device[0]
    Error: Path /machine/peripheral-anon/device[0] is not a VirtIODevice
ERST

    {
        .name       = "virtio-queue-status",
        .args_type  = "path:s,queue:i",
        .params     = "path queue",
        .help       = "show the state of a virtio device's queue",
        .cmd        = hmp_virtio_queue_status,
        .flags      = "p",
    },

SRST
``info virtio-queue-status`` *path* *queue*
  Show the state of the queue *queue* of the virtio device *path*. The embedded machine has none.
ERST

    {
        .name       = "virtio-vhost-queue-status",
        .args_type  = "path:s,queue:i",
        .params     = "path queue",
        .help       = "show the state of a vhost device's queue",
        .cmd        = hmp_vhost_queue_status,
        .flags      = "p",
    },

SRST
``info virtio-vhost-queue-status`` *path* *queue*
  Show the state of the queue *queue* of the vhost device *path*. The embedded machine has none.
ERST

    {
        .name       = "virtio-queue-element",
        .args_type  = "path:s,queue:i,index:i?",
        .params     = "path queue [index]",
        .help       = "show one element of a virtio device's queue",
        .cmd        = hmp_virtio_queue_element,
        .flags      = "p",
    },

SRST
``info virtio-queue-element`` *path* *queue* [*index*]
  Show the element *index*, else the next one, of the queue *queue* of the virtio device *path*. The
  embedded machine has none.
ERST

    {
        .name       = "rdma",
        .args_type  = "",
        .params     = "",
        .help       = "show the state of RDMA devices",
        .cmd_info_hrt= qmp_x_query_rdma,
    },

SRST
``info rdma``
  Show counters of the guest's RDMA devices. The embedded machine has none and prints nothing.
ERST

DEFHEADING(Networks)

    {
        .name       = "network",
        .args_type  = "",
        .params     = "",
        .help       = "list network cards and back ends",
        .cmd        = hmp_info_network,
    },

SRST
``info network``
  List the network cards and the back ends that they are connected to. The embedded machine has neither
  and prints nothing.
ERST

    {
        .name       = "usernet",
        .args_type  = "",
        .params     = "",
        .help       = "list the connections of user networks",
        .cmd        = hmp_info_usernet,
    },

SRST
``info usernet``
  List the connections through back ends of the type ``user``. The embedded machine has none and prints
  nothing.
ERST

    {
        .name       = "rocker",
        .args_type  = "name:s",
        .params     = "name",
        .help       = "show a rocker switch",
        .cmd        = hmp_rocker,
    },

SRST
``info rocker`` *name*
  Show the rocker switch *name*. The embedded machine has none::

    (qemu) info rocker sw1
    Error: rocker sw1 not found
ERST

    {
        .name       = "rocker-ports",
        .args_type  = "name:s",
        .params     = "name",
        .help       = "list the ports of a rocker switch",
        .cmd        = hmp_rocker_ports,
    },

SRST
``info rocker-ports`` *name*
  List the ports of the rocker switch *name*. The embedded machine has none.
ERST

    {
        .name       = "rocker-of-dpa-flows",
        .args_type  = "name:s,tbl_id:i?",
        .params     = "name [tbl_id]",
        .help       = "list the flows of a rocker switch",
        .cmd        = hmp_rocker_of_dpa_flows,
    },

SRST
``info rocker-of-dpa-flows`` *name* [*tbl_id*]
  List the flows of the rocker switch *name*, or those of its table *tbl_id*. The embedded machine has
  none.
ERST

    {
        .name       = "rocker-of-dpa-groups",
        .args_type  = "name:s,type:i?",
        .params     = "name [type]",
        .help       = "list the groups of a rocker switch",
        .cmd        = hmp_rocker_of_dpa_groups,
    },

SRST
``info rocker-of-dpa-groups`` *name* [*type*]
  List the groups of the rocker switch *name*, or those of the type *type*. The embedded machine has
  none.
ERST

DEFHEADING(Screens, mice and sound)

    {
        .name       = "mice",
        .args_type  = "",
        .params     = "",
        .help       = "list the mice, and which of them is in use",
        .cmd        = hmp_info_mice,
    },

SRST
``info mice``
  List the guest's mice, with ``*`` before the one that is in use, and ``(absolute)`` behind those that
  tell a place rather than a movement::

    (qemu) info mice
    No mouse devices connected
ERST

    {
        .name       = "vnc",
        .args_type  = "",
        .params     = "",
        .help       = "show the VNC servers and their viewers",
        .cmd        = hmp_info_vnc,
    },

SRST
``info vnc``
  Show the VNC servers and who is connected to them::

    (qemu) info vnc
    None
ERST

    {
        .name       = "spice",
        .args_type  = "",
        .params     = "",
        .help       = "show the SPICE server and its viewers",
        .cmd        = hmp_info_spice,
    },

SRST
``info spice``
  Show the SPICE server and who is connected to it::

    (qemu) info spice
    Server: disabled
ERST

    {
        .name       = "capture",
        .args_type  = "",
        .params     = "",
        .help       = "list the recordings of sound",
        .cmd        = hmp_info_capture,
    },

SRST
``info capture``
  List the recordings that ``wavcapture`` began. The embedded machine has none and prints nothing.
ERST
