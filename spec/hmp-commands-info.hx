HXCOMM What ``info`` can show. The format is that of hmp-commands.hx.

DEFHEADING(The program and the machine)

    {
        .name       = "version",
        .args_type  = "",
        .params     = "",
        .help       = "show the program's version",
        .cmd        = hmp_info_version,
        .flags      = "p",
    },

SRST
``info version``
  Show the program's version.

  ::

    (qemu) info version
    ...
ERST

    {
        .name       = "name",
        .args_type  = "",
        .params     = "",
        .help       = "show the machine's name",
        .cmd        = hmp_info_name,
        .flags      = "p",
    },

SRST
``info name``
  Show the name given by ``-name``. Without ``-name``, nothing is printed.

  ::

    (qemu) info name
ERST

    {
        .name       = "uuid",
        .args_type  = "",
        .params     = "",
        .help       = "show the machine's UUID",
        .cmd        = hmp_info_uuid,
        .flags      = "p",
    },

SRST
``info uuid``
  Show the UUID given by ``-uuid``, or a UUID of zeros.

  ::

    (qemu) info uuid
    00000000-0000-0000-0000-000000000000
ERST

    {
        .name       = "status",
        .args_type  = "",
        .params     = "",
        .help       = "show whether the machine runs",
        .cmd        = hmp_info_status,
        .also       = "state",
        .flags      = "p",
    },

SRST
``info status``
  Show whether the machine runs or is paused, and why it is paused.

  ::

    (qemu) info status
    VM status: running
ERST

    {
        .name       = "history",
        .args_type  = "",
        .params     = "",
        .help       = "list the lines typed into this monitor",
        .cmd        = hmp_info_history,
        .flags      = "p",
    },

SRST
``info history``
  List the lines typed into this monitor, numbered from the oldest.

  ::

    (qemu) print/d 1
    1
    (qemu) info history
    0: 'print/d 1'
    1: 'info history'
ERST

    {
        .name       = "kvm",
        .args_type  = "",
        .params     = "",
        .help       = "show whether the guest runs with KVM",
        .cmd        = hmp_info_kvm,
    },

SRST
``info kvm``
  Show whether the guest runs with KVM. The embedded machine runs no guest::

    (qemu) info kvm
    kvm support: disabled
ERST

    {
        .name       = "numa",
        .args_type  = "",
        .params     = "",
        .help       = "show the NUMA nodes",
        .cmd_info_hrt= qmp_x_query_numa,
    },

SRST
``info numa``
  Show the NUMA nodes. The embedded machine has none::

    (qemu) info numa
    0 nodes
ERST

    {
        .name       = "sev",
        .args_type  = "",
        .params     = "",
        .help       = "show the state of AMD's memory encryption (SEV)",
        .cmd        = hmp_info_sev,
    },

SRST
``info sev``
  Show the state of AMD's Secure Encrypted Virtualization. The embedded machine does not have it::

    (qemu) info sev
    SEV is not enabled
ERST

    {
        .name       = "sgx",
        .args_type  = "",
        .params     = "",
        .help       = "show the guest's Intel SGX enclaves",
        .cmd        = hmp_info_sgx,
    },

SRST
``info sgx``
  Show the guest's Intel SGX enclaves. The embedded machine has none::

    (qemu) info sgx
    SGX is only supported on PC machines
ERST

    {
        .name       = "vm-generation-id",
        .args_type  = "",
        .params     = "",
        .help       = "show the machine's generation ID",
        .cmd        = hmp_info_vm_generation_id,
    },

SRST
``info vm-generation-id``
  Show the GUID of the VM generation ID device. The embedded machine has no such device::

    (qemu) info vm-generation-id
    Error: VM Generation ID device not found
ERST

#if defined(CONFIG_MOS6522)
    {
        .name       = "via",
        .args_type  = "",
        .params     = "",
        .help       = "show the registers of the VIA chips",
        .cmd        = hmp_info_via,
    },
#endif

SRST
``info via``
  Show the registers of the VIA chips of a Macintosh. The embedded machine has none.
ERST

    {
        .name       = "tpm",
        .args_type  = "",
        .params     = "",
        .help       = "list the TPM devices",
        .cmd        = hmp_info_tpm,
    },

SRST
``info tpm``
  List the TPM devices. The embedded machine has none.

  ::

    (qemu) info tpm
ERST

DEFHEADING(Drives)

    {
        .name       = "block",
        .args_type  = "nodes:-n,verbose:-v,device:B?",
        .params     = "[-n] [-v] [device]",
        .help       = "list drives (-n: nodes; -v: with details of their images)",
        .cmd        = hmp_info_block,
        .also       = "disk|disks|drive|drives",
        .flags      = "p",
    },

SRST
``info block`` [``-n``] [``-v``] [*device*]
  List the drives and their images, or only *device*. ``-n`` lists nodes instead: for each image the
  node of its format and the node of its file, newest first. ``-v`` adds the size and the format of
  each image and of its backing images.

  ::

    (qemu) info block d0
    d0 (#block...): d0.img (raw)
        Removable device: not locked, tray closed
        Cache mode:       writeback
    (qemu) info block -v ro
    ...
    image: ro.img
    file format: raw
    virtual size: 16 MiB (16777216 bytes)
    disk size: ...
ERST

    {
        .name       = "blockstats",
        .args_type  = "",
        .params     = "",
        .help       = "show how much guests have read and written",
        .cmd        = hmp_info_blockstats,
    },

SRST
``info blockstats``
  Show for each drive the number of its guests' requests, the bytes they read and wrote, and the
  time they took in nanoseconds. ``idle_time_ns`` is the time since the last request. The guests are
  NBD clients and the ``aio_`` commands of ``qemu-io``. A drive keeps its figures when its image is
  ejected.

  ::

    (qemu) qemu-io d0 "aio_read -q 0 64k"
    (qemu) info blockstats
    d0: rd_bytes=65536 wr_bytes=0 rd_operations=1 wr_operations=0 flush_operations=0 ...
    ro: rd_bytes=0 ...
ERST

    {
        .name       = "block-jobs",
        .args_type  = "",
        .params     = "",
        .help       = "list the running block jobs",
        .cmd        = hmp_info_block_jobs,
    },

SRST
``info block-jobs``
  List the running block jobs.

  ::

    (qemu) info block-jobs
    No active jobs
ERST

    {
        .name       = "snapshots",
        .args_type  = "",
        .params     = "",
        .help       = "list the snapshots of the machine",
        .cmd        = hmp_info_snapshots,
    },

SRST
``info snapshots``
  List the snapshots that all writable qcow2 drives have; ``loadvm`` restores these. Then list, for
  each drive, its other snapshots. Raw images can't hold snapshots.

  ::

    (qemu) info snapshots
    no block device can store vmstate for snapshot
ERST

    {
        .name       = "nbd",
        .args_type  = "",
        .params     = "",
        .help       = "list the NBD exports and their clients",
        .cmd        = hmp_info_nbd,
        .side       = "console",
    },

SRST
``info nbd``
  Show the address of the NBD server, its exports, and for each client its address, how long it has
  been connected, and how much it has read and written, in how many requests. QEMU has no such
  command.

  ::

    (qemu) nbd_server_start -a 127.0.0.1:0
    (qemu) info nbd
    NBD server: tcp:127.0.0.1:...
    Export 'd0': drive 'd0', read-only, no clients
    ...
    (qemu) nbd_server_stop
    (qemu) info nbd
    The NBD server does not run: 'nbd_server_start ADDRESS' starts it
ERST

DEFHEADING(Migration)

    {
        .name       = "migrate",
        .args_type  = "all:-a,timeline:-t",
        .params     = "[-a] [-t]",
        .help       = "show the progress or the result of a migration",
        .cmd        = hmp_info_migrate,
        .also       = "migration|progress",
        .answers    = "t",
    },

SRST
``info migrate`` [``-a``] [``-t``]
  Show the state of the migration: what is done and left of each drive, the rates, the rounds, the
  downtime, and the settings that matter. The figures stay when it has ended. On a destination, show
  the address it listens on and what has arrived. ``watch info migrate`` shows them as they change.

  In scripts and on sockets, and with ``-a``, the answer is laid out as QEMU's. The figures of RAM
  are printed as in QEMU. Only the throughput and the number of passes (``dirty sync count``) are
  measured, because the machine has no RAM. QEMU has ``-a`` since version 10.1.

  ``-t`` draws how it went over time: what was sent per second and left, what guests wrote, how long
  a request of a guest took at most, and below it the changes of state and what else happened. A
  script gets a line for each interval and event.

  ::

    (qemu) info migrate -a
    globals:
    ...
ERST

    {
        .name       = "migrate_capabilities",
        .args_type  = "",
        .params     = "",
        .help       = "list the migration capabilities",
        .cmd        = hmp_info_migrate_capabilities,
    },

SRST
``info migrate_capabilities``
  List the capabilities that ``migrate_set_capability`` turns on and off: those of QEMU 7.2, and
  those of QEMU 10 that are on. ``migrate -b`` turns on ``block`` until the migration ends.

  ::

    (qemu) migrate_set_capability auto-converge on
    (qemu) info migrate_capabilities
    ...
    auto-converge: on
    zero-blocks: off
    ...
ERST

    {
        .name       = "migrate_parameters",
        .args_type  = "",
        .params     = "",
        .help       = "list the migration parameters",
        .cmd        = hmp_info_migrate_parameters,
    },

SRST
``info migrate_parameters``
  List the parameters that ``migrate_set_parameter`` sets, with their values: those of QEMU 7.2, and
  those of QEMU 10 that have been changed.

  ::

    (qemu) migrate_set_parameter max-bandwidth 100
    (qemu) info migrate_parameters
    ...
    max-bandwidth: 104857600 bytes/second
    downtime-limit: 300 ms
    ...
ERST

    {
        .name       = "dirty_rate",
        .args_type  = "",
        .params     = "",
        .help       = "show the result of calc_dirty_rate",
        .cmd        = hmp_info_dirty_rate,
    },

SRST
``info dirty_rate``
  Show the result of the last ``calc_dirty_rate``.

  ::

    (qemu) info dirty_rate
    Status: unstarted
    ...
    Dirty rate: (not ready)
ERST

    {
        .name       = "vcpu_dirty_limit",
        .args_type  = "",
        .params     = "",
        .help       = "show the limits on virtual CPUs' memory writes",
        .cmd        = hmp_info_vcpu_dirty_limit,
    },

SRST
``info vcpu_dirty_limit``
  Show how fast each virtual CPU may write to memory. The embedded machine has no CPU.

  ::

    (qemu) info vcpu_dirty_limit
    Dirty page limit not enabled!
ERST

    {
        .name       = "dump",
        .args_type  = "",
        .params     = "",
        .help       = "show the progress of a memory dump",
        .cmd        = hmp_info_dump,
    },

SRST
``info dump``
  Show the state of ``dump-guest-memory``. The embedded machine has no memory to dump.

  ::

    (qemu) info dump
    Status: none
ERST

DEFHEADING(Objects and character devices)

    {
        .name       = "chardev",
        .args_type  = "",
        .params     = "",
        .help       = "list the character devices",
        .cmd        = hmp_info_chardev,
        .flags      = "p",
    },

SRST
``info chardev``
  List the character devices and what each is connected to. ``disconnected:`` marks a socket without
  a client. A monitor's socket takes several clients here; one of them is named.

  ::

    (qemu) chardev-add null,id=line
    (qemu) info chardev
    ...
    line: filename=null
    ...
ERST

    {
        .name       = "qom-tree",
        .args_type  = "path:s?",
        .params     = "[path]",
        .help       = "show the object tree",
        .cmd        = hmp_info_qom_tree,
        .flags      = "p",
    },

SRST
``info qom-tree`` [*path*]
  Show an object of QEMU's object tree and all objects below it. The embedded machine has no object
  tree.

  ::

    (qemu) info qom-tree
    this machine has no object tree
ERST

    {
        .name       = "memdev",
        .args_type  = "",
        .params     = "",
        .help       = "list the memory backends",
        .cmd        = hmp_info_memdev,
        .flags      = "p",
    },

SRST
``info memdev``
  Show the size and the policy of each memory backend. The embedded machine has none.

  ::

    (qemu) info memdev
ERST

    {
        .name       = "iothreads",
        .args_type  = "",
        .params     = "",
        .help       = "list the I/O threads",
        .cmd        = hmp_info_iothreads,
        .flags      = "p",
    },

SRST
``info iothreads``
  List the I/O threads. qmon has none to show: an ``iothread`` object is only a name here, and
  drives are served by threads of their own.

  ::

    (qemu) info iothreads
ERST

    {
        .name       = "cryptodev",
        .args_type  = "",
        .params     = "",
        .help       = "list the crypto devices",
        .cmd        = hmp_info_cryptodev,
        .flags      = "p",
    },

SRST
``info cryptodev``
  List the crypto devices. The embedded machine has none. QEMU has the command since version 8.0.
ERST

DEFHEADING(CPU and memory)

    {
        .name       = "cpus",
        .args_type  = "",
        .params     = "",
        .help       = "list the CPUs",
        .cmd        = hmp_info_cpus,
    },

SRST
``info cpus``
  List the CPUs with the ids of their threads. The embedded machine has no CPU and prints nothing.

  ::

    (qemu) info cpus
ERST

    {
        .name       = "registers",
        .args_type  = "cpustate_all:-a,vcpu:i?",
        .params     = "[-a|vcpu]",
        .help       = "show a CPU's registers",
        .cmd        = hmp_info_registers,
    },

SRST
``info registers`` [``-a``\|\ *vcpu*]
  Show the registers of the selected CPU, of the CPU *vcpu*, or of all CPUs (``-a``). The embedded
  machine has no CPU.

  ::

    (qemu) info registers
    No CPU available
ERST

    {
        .name       = "lapic",
        .args_type  = "apic-id:i?",
        .params     = "[apic-id]",
        .help       = "show a CPU's local APIC",
        .cmd        = hmp_info_local_apic,
    },

SRST
``info lapic`` [*apic-id*]
  Show the state of a CPU's local APIC. The embedded machine has no CPU::

    (qemu) info lapic
    No CPU available
ERST

    {
        .name       = "mem",
        .args_type  = "",
        .params     = "",
        .help       = "list the memory ranges that the page tables map",
        .cmd        = hmp_info_mem,
    },

SRST
``info mem``
  List the memory ranges that the CPU's page tables map. The embedded machine has no CPU::

    (qemu) info mem
    No CPU available
ERST

    {
        .name       = "tlb",
        .args_type  = "",
        .params     = "",
        .help       = "list the guest's virtual-to-physical page mappings",
        .cmd        = hmp_info_tlb,
    },

SRST
``info tlb``
  List every page that the CPU's page tables map. The embedded machine has no CPU::

    (qemu) info tlb
    No CPU available
ERST

    {
        .name       = "mtree",
        .args_type  = "flatview:-f,dispatch_tree:-d,owner:-o,disabled:-D",
        .params     = "[-f][-d][-o][-D]",
        .help       = "show the memory map",
        .cmd        = hmp_info_mtree,
    },

SRST
``info mtree`` [``-f``] [``-d``] [``-o``] [``-D``]
  Show the address spaces and their memory regions. The embedded machine has no memory.

  ::

    (qemu) info mtree
    this machine has no memory
ERST

    {
        .name       = "memory-devices",
        .args_type  = "",
        .params     = "",
        .help       = "list the memory devices",
        .cmd        = hmp_info_memory_devices,
    },

SRST
``info memory-devices``
  List the memory devices that were plugged in. The embedded machine has none.

  ::

    (qemu) info memory-devices
ERST

    {
        .name       = "memory_size_summary",
        .args_type  = "",
        .params     = "",
        .help       = "show the size of the machine's memory",
        .cmd        = hmp_info_memory_size_summary,
    },

SRST
``info memory_size_summary``
  Show in bytes how much memory the machine started with, and how much was plugged in. The embedded
  machine has no memory::

    (qemu) info memory_size_summary
    base memory: 0
    plugged memory: 0
ERST

    {
        .name       = "hotpluggable-cpus",
        .args_type  = "",
        .params     = "",
        .help       = "list the CPUs that can be plugged in",
        .cmd        = hmp_hotpluggable_cpus,
        .flags      = "p",
    },

SRST
``info hotpluggable-cpus``
  List the CPUs that can be plugged in. The embedded machine has no CPU sockets::

    (qemu) info hotpluggable-cpus
    Error: The feature 'query-hotpluggable-cpus' is not enabled
ERST

    {
        .name       = "ramblock",
        .args_type  = "",
        .params     = "",
        .help       = "list the RAM blocks",
        .cmd_info_hrt= qmp_x_query_ramblock,
    },

SRST
``info ramblock``
  List the blocks of QEMU's process that hold guest memory. The embedded machine has no memory, so
  the table is empty.

  ::

    (qemu) info ramblock
    ...Block Name    PSize              Offset               Used              Total
ERST

    {
        .name       = "roms",
        .args_type  = "",
        .params     = "",
        .help       = "list the loaded ROMs",
        .cmd_info_hrt= qmp_x_query_roms,
    },

SRST
``info roms``
  List the ROMs and other images that were loaded into memory. The embedded machine has none.

  ::

    (qemu) info roms
ERST

    {
        .name       = "jit",
        .args_type  = "",
        .params     = "",
        .help       = "show statistics of QEMU's code translator (TCG)",
        .cmd_info_hrt= qmp_x_query_jit,
    },

SRST
``info jit``
  Show statistics of the code translator. qmon has none, and answers like a QEMU that does not use
  its translator.

  ::

    (qemu) info jit
    Error: JIT information is only available with accel=tcg
ERST

    {
        .name       = "opcount",
        .args_type  = "",
        .params     = "",
        .help       = "show operation counts of the code translator",
        .cmd_info_hrt= qmp_x_query_opcount,
    },

SRST
``info opcount``
  Show how many operations of each kind the code translator has made. qmon has no code translator::

    (qemu) info opcount
    [TCG profiler not compiled]
ERST

    {
        .name       = "profile",
        .args_type  = "",
        .params     = "",
        .help       = "show profiling times of the code translator",
        .cmd_info_hrt= qmp_x_query_profile,
    },

SRST
``info profile``
  Show the times of the code translator's profiler. Later QEMUs no longer have it, and qmon does not
  either::

    (qemu) info profile
    Error: Internal profiler not compiled
ERST

    {
        .name       = "sync-profile",
        .args_type  = "mean:-m,no_coalesce:-n,max:i?",
        .params     = "[-m] [-n] [max]",
        .help       = "show how long threads waited for locks",
        .cmd        = hmp_info_sync_profile,
    },

SRST
``info sync-profile`` [``-m``] [``-n``] [*max*]
  Show how long threads waited for locks. qmon does not measure this.

  ::

    (qemu) info sync-profile
    qmon does not measure how long it waits for locks
ERST

    {
        .name       = "replay",
        .args_type  = "",
        .params     = "",
        .help       = "show whether a run is recorded or replayed",
        .cmd        = hmp_info_replay,
    },

SRST
``info replay``
  Show whether a run is recorded or replayed, and its position. The embedded machine has no replay::

    (qemu) info replay
    Record/replay is not active
ERST

    {
        .name       = "balloon",
        .args_type  = "",
        .params     = "",
        .help       = "show how much memory the guest may use",
        .cmd        = hmp_info_balloon,
    },

SRST
``info balloon``
  Show how much memory the balloon leaves to the guest. The embedded machine has no balloon device::

    (qemu) info balloon
    Error: No balloon device has been activated
ERST

#if defined(TARGET_S390X)
    {
        .name       = "skeys",
        .args_type  = "addr:l",
        .params     = "address",
        .help       = "show the s390 storage key of a guest's page",
        .cmd        = hmp_info_skeys,
    },
#endif

SRST
``info skeys`` *address*
  Show the storage key at *address* of an S390 guest. The embedded machine is not an S390 machine.
ERST

#if defined(TARGET_S390X)
    {
        .name       = "cmma",
        .args_type  = "addr:l,count:l?",
        .params     = "address [count]",
        .help       = "show the s390 memory attributes of the guest's pages",
        .cmd        = hmp_info_cmma,
    },
#endif

SRST
``info cmma`` *address* [*count*]
  Show the collaborative memory attributes of *count* pages from *address* on, of an S390 guest. The
  embedded machine is not an S390 machine.
ERST

    {
        .name       = "stats",
        .args_type  = "target:s,names:s?,provider:s?",
        .params     = "target [names] [provider]",
        .help       = "show KVM statistics",
        .cmd        = hmp_info_stats,
    },

SRST
``info stats`` *target* [*names*] [*provider*]
  Show the statistics of a *target*: ``vm`` or ``vcpu``. *names* selects some of them, *provider*
  (such as ``kvm``) those of one source. The embedded machine counts nothing.

  ::

    (qemu) info stats vm
ERST

    {
        .name       = "trace-events",
        .args_type  = "name:s?,vcpu:i?",
        .params     = "[name] [vcpu]",
        .help       = "list the trace events and whether each is on",
        .cmd        = hmp_info_trace_events,
        .command_completion = info_trace_events_completion,
    },

SRST
``info trace-events`` [*name*] [*vcpu*]
  List the trace events, or those that match *name*, a name or a pattern. ``state 1`` marks an event
  that is on. There are two events for each QMP command, at its start and its end, and some for the
  activity of monitors, guests and migrations.

  ::

    (qemu) info trace-events handle_*
    handle_hmp_command : state 0
    handle_qmp_command : state 0
ERST

    {
        .name       = "irq",
        .args_type  = "",
        .params     = "",
        .help       = "show interrupt counts",
        .cmd_info_hrt= qmp_x_query_irq,
    },

SRST
``info irq``
  Show the interrupt counts of each interrupt controller. The embedded machine has none.

  ::

    (qemu) info irq
ERST

    {
        .name       = "pic",
        .args_type  = "",
        .params     = "",
        .help       = "show the interrupt controllers",
        .cmd        = hmp_info_pic,
    },

SRST
``info pic``
  Show the state of the interrupt controllers. The embedded machine has none.

  ::

    (qemu) info pic
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
  Show the buses, the devices on them and their properties. The embedded machine has only the main
  system bus, without devices::

    (qemu) info qtree
    bus: main-system-bus
      type System
ERST

    {
        .name       = "qdm",
        .args_type  = "",
        .params     = "",
        .help       = "list the device models",
        .cmd        = hmp_info_qdm,
    },

SRST
``info qdm``
  List the device models. The embedded machine has none and prints nothing.
ERST

    {
        .name       = "pci",
        .args_type  = "",
        .params     = "",
        .help       = "list the PCI devices",
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
        .help       = "list the host's USB devices",
        .cmd        = hmp_info_usbhost,
    },

SRST
``info usbhost``
  List the host's USB devices that a guest can use. The embedded machine has no USB and prints
  nothing.
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
  List the virtio devices with their paths. The embedded machine has none::

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
        .help       = "show an element of a virtio device's queue",
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
        .help       = "show the RDMA devices' counters",
        .cmd_info_hrt= qmp_x_query_rdma,
    },

SRST
``info rdma``
  Show the counters of the guest's RDMA devices. The embedded machine has none and prints nothing.
ERST

DEFHEADING(Networks)

    {
        .name       = "network",
        .args_type  = "",
        .params     = "",
        .help       = "list the network cards and backends",
        .cmd        = hmp_info_network,
    },

SRST
``info network``
  List the network cards and the backends they are connected to. The embedded machine has no network
  and prints nothing.
ERST

    {
        .name       = "usernet",
        .args_type  = "",
        .params     = "",
        .help       = "list the connections of user-mode networks",
        .cmd        = hmp_info_usernet,
    },

SRST
``info usernet``
  List the connections through network backends of the type ``user``. The embedded machine has no
  network and prints nothing.
ERST

    {
        .name       = "rocker",
        .args_type  = "name:s",
        .params     = "name",
        .help       = "show the ID and port count of a Rocker network switch",
        .cmd        = hmp_rocker,
    },

SRST
``info rocker`` *name*
  Show the ID and the number of ports of the Rocker network switch *name*. The embedded machine has none::

    (qemu) info rocker sw1
    Error: rocker sw1 not found
ERST

    {
        .name       = "rocker-ports",
        .args_type  = "name:s",
        .params     = "name",
        .help       = "list the ports of a Rocker network switch",
        .cmd        = hmp_rocker_ports,
    },

SRST
``info rocker-ports`` *name*
  List the ports of the Rocker network switch *name*. The embedded machine has none.
ERST

    {
        .name       = "rocker-of-dpa-flows",
        .args_type  = "name:s,tbl_id:i?",
        .params     = "name [tbl_id]",
        .help       = "list the flows of a Rocker network switch",
        .cmd        = hmp_rocker_of_dpa_flows,
    },

SRST
``info rocker-of-dpa-flows`` *name* [*tbl_id*]
  List the flows of the Rocker network switch *name*, or those of its table *tbl_id*. The embedded machine has
  none.
ERST

    {
        .name       = "rocker-of-dpa-groups",
        .args_type  = "name:s,type:i?",
        .params     = "name [type]",
        .help       = "list the groups of a Rocker network switch",
        .cmd        = hmp_rocker_of_dpa_groups,
    },

SRST
``info rocker-of-dpa-groups`` *name* [*type*]
  List the groups of the Rocker network switch *name*, or those of the type *type*. The embedded machine has
  none.
ERST

DEFHEADING(Screens, mice and sound)

    {
        .name       = "mice",
        .args_type  = "",
        .params     = "",
        .help       = "list the mice",
        .cmd        = hmp_info_mice,
    },

SRST
``info mice``
  List the guest's mice. ``*`` marks the one in use, and ``(absolute)`` one that reports positions
  instead of movements. The embedded machine has none::

    (qemu) info mice
    No mouse devices connected
ERST

    {
        .name       = "vnc",
        .args_type  = "",
        .params     = "",
        .help       = "list the VNC servers and their clients",
        .cmd        = hmp_info_vnc,
    },

SRST
``info vnc``
  Show the VNC servers and their clients. The embedded machine has none::

    (qemu) info vnc
    None
ERST

    {
        .name       = "spice",
        .args_type  = "",
        .params     = "",
        .help       = "show the SPICE server and its clients",
        .cmd        = hmp_info_spice,
    },

SRST
``info spice``
  Show the SPICE server and its clients. The embedded machine has none::

    (qemu) info spice
    Server: disabled
ERST

    {
        .name       = "capture",
        .args_type  = "",
        .params     = "",
        .help       = "list the audio recordings",
        .cmd        = hmp_info_capture,
    },

SRST
``info capture``
  List the audio recordings started by ``wavcapture``. The embedded machine has no sound and prints
  nothing.
ERST
