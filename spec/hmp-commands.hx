HXCOMM The commands of the monitor. Parsing, help, completion, highlighting and the reference
HXCOMM manual all come from this table. The format is QEMU's; a flag may also name a bare word
HXCOMM that means the same (blk:-b|blk).
HXCOMM Text between SRST and ERST documents the entry before it and goes to the manual.
HXCOMM DEFHEADING starts a group of commands, a section of the manual.

DEFHEADING(General)

    {
        .name       = "help|?",
        .args_type  = "name:S?",
        .params     = "[cmd]",
        .help       = "say what commands there are, or how one of them is written",
        .cmd        = hmp_help,
        .command_completion = help_completion,
        .flags      = "p",
    },

SRST
``help`` or ``?`` [*cmd*]
  List every command with its arguments, or only *cmd*. ``help info`` lists what ``info`` can
  show, ``help info block`` one of these.
ERST

    {
        .name       = "info",
        .args_type  = "item:s?",
        .params     = "[subcommand]",
        .help       = "show one side of the machine's state",
        .cmd        = hmp_info_help,
        .sub_table  = hmp_info_cmds,
        .flags      = "p",
    },

SRST
``info`` *subcommand*
  Show what *subcommand* names; without one, list them all.
ERST

    {
        .name       = "quit|q",
        .args_type  = "",
        .params     = "",
        .help       = "end the program",
        .cmd        = hmp_quit,
        .flags      = "p",
    },

SRST
``quit`` or ``q``
  End the program. Drives are flushed and their images released first. A migration that is under
  way is cancelled, unless the destination has been told to take over; at a terminal it is asked
  first.
ERST

    {
        .name       = "print|p",
        .args_type  = "fmt:/,val:l",
        .params     = "/fmt expr",
        .help       = "show the value of an integer expression",
        .cmd        = hmp_print,
    },

SRST
``print`` or ``p/``\ *fmt* *expr*
  Show the value of *expr*, a 64-bit integer expression. *fmt* is ``x`` (hexadecimal), ``d``
  (decimal), ``u`` (unsigned decimal), ``o`` (octal) or ``c`` (character), and stays in force for
  lines that give none.
ERST

    {
        .name       = "sync-profile",
        .args_type  = "op:s?",
        .params     = "[on|off|reset]",
        .help       = "",
        .cmd        = hmp_sync_profile,
    },

SRST
ERST

    {
        .name       = "exit_preconfig",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_exit_preconfig,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "log",
        .args_type  = "items:s",
        .params     = "item1[,...]",
        .help       = "",
        .cmd        = hmp_log,
    },

SRST
ERST

    {
        .name       = "logfile",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "",
        .cmd        = hmp_logfile,
    },

SRST
ERST

    {
        .name       = "trace-event",
        .args_type  = "name:s,option:b,vcpu:i?",
        .params     = "name on|off [vcpu]",
        .help       = "",
        .cmd        = hmp_trace_event,
        .command_completion = trace_event_completion,
    },

SRST
ERST

    {
        .name       = "trace-file",
        .args_type  = "op:s?,arg:F?",
        .params     = "on|off|flush|set [arg]",
        .help       = "",
        .cmd        = hmp_trace_file,
    },

SRST
ERST

    {
        .name       = "getfd",
        .args_type  = "fdname:s",
        .params     = "getfd name",
        .help       = "",
        .cmd        = hmp_getfd,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "closefd",
        .args_type  = "fdname:s",
        .params     = "closefd name",
        .help       = "",
        .cmd        = hmp_closefd,
        .flags      = "p",
    },

SRST
ERST

DEFHEADING(Running)

    {
        .name       = "cont|c",
        .args_type  = "force:-f",
        .params     = "[-f]",
        .help       = "let the machine run on (-f: also with disks that were handed over)",
        .cmd        = hmp_cont,
    },

SRST
``cont`` or ``c`` [``-f``]
  Let a paused machine run on. After a migration the disks are another machine's, and ``cont`` is
  refused; ``-f`` runs on with them all the same. Give it only when the other machine is sure never
  to run with them again: two machines on one disk destroy it. QEMU has no such flag.
ERST

    {
        .name       = "stop|s",
        .args_type  = "",
        .params     = "",
        .help       = "pause the machine: its drives hold every request until it continues",
        .cmd        = hmp_stop,
    },

SRST
``stop`` or ``s``
  Pause the machine. Requests that are under way end first; later ones wait.
ERST

    {
        .name       = "system_reset",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_system_reset,
    },

SRST
ERST

    {
        .name       = "system_powerdown",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_system_powerdown,
    },

SRST
ERST

    {
        .name       = "system_wakeup",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_system_wakeup,
    },

SRST
ERST

    {
        .name       = "boot_set",
        .args_type  = "bootdevice:s",
        .params     = "bootdevice",
        .help       = "",
        .cmd        = hmp_boot_set,
    },

SRST
ERST

    {
        .name       = "watchdog_action",
        .args_type  = "action:s",
        .params     = "[reset|shutdown|poweroff|pause|debug|none]",
        .help       = "",
        .cmd        = hmp_watchdog_action,
        .command_completion = watchdog_action_completion,
    },

SRST
ERST

    {
        .name       = "nmi",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_nmi,
    },

SRST
ERST

DEFHEADING(Drives and images)

    {
        .name       = "drive_add",
        .args_type  = "node:-n,pci_addr:s,opts:s",
        .params     = "[-n] [[<domain>:]<bus>:]<slot>\n"
                      "[file=file][,if=type][,bus=n]\n"
                      "[,unit=m][,media=d][,index=i]\n"
                      "[,snapshot=on|off][,cache=on|off]\n"
                      "[,readonly=on|off][,copy-on-read=on|off]",
        .help       = "open an image as a new drive",
        .cmd        = hmp_drive_add,
    },

SRST
``drive_add`` *addr* ``file=``\ *file*\ ``,if=none``\ [``,id=``\ *id*][``,format=``\ *format*][``,readonly=on``]
  Open *file* as a new drive. The options are those of ``-drive``. *addr* was the address of a
  PCI controller and is not looked at: write ``0``.
ERST

    {
        .name       = "drive_del",
        .args_type  = "id:B",
        .params     = "device",
        .help       = "remove a drive and release its image",
        .cmd        = hmp_drive_del,
    },

SRST
``drive_del`` *device*
  Remove the drive *device*. Requests that are under way end first, and its image is flushed.
ERST

    {
        .name       = "block_resize",
        .args_type  = "device:B,size:o",
        .params     = "device size",
        .help       = "",
        .cmd        = hmp_block_resize,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "commit",
        .args_type  = "device:B",
        .params     = "device|all",
        .help       = "",
        .cmd        = hmp_commit,
    },

SRST
ERST

    {
        .name       = "change",
        .args_type  = "device:B,force:-f,target:F,arg:s?,read-only-mode:s?",
        .params     = "device [-f] filename [format [read-only-mode]]",
        .help       = "",
        .cmd        = hmp_change,
    },

SRST
ERST

    {
        .name       = "eject",
        .args_type  = "force:-f,device:B",
        .params     = "[-f] device",
        .help       = "",
        .cmd        = hmp_eject,
    },

SRST
ERST

    {
        .name       = "block_set_io_throttle",
        .args_type  = "device:B,bps:l,bps_rd:l,bps_wr:l,iops:l,iops_rd:l,iops_wr:l",
        .params     = "device bps bps_rd bps_wr iops iops_rd iops_wr",
        .help       = "",
        .cmd        = hmp_block_set_io_throttle,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "qemu-io",
        .args_type  = "qdev:-d,device:B,command:s",
        .params     = "[-d] [device] \"[command]\"",
        .help       = "",
        .cmd        = hmp_qemu_io,
    },

SRST
ERST

DEFHEADING(Snapshots)

    {
        .name       = "savevm",
        .args_type  = "name:s?",
        .params     = "tag",
        .help       = "",
        .cmd        = hmp_savevm,
    },

SRST
ERST

    {
        .name       = "loadvm",
        .args_type  = "name:s",
        .params     = "tag",
        .help       = "",
        .cmd        = hmp_loadvm,
        .command_completion = loadvm_completion,
    },

SRST
ERST

    {
        .name       = "delvm",
        .args_type  = "name:s",
        .params     = "tag",
        .help       = "",
        .cmd        = hmp_delvm,
        .command_completion = delvm_completion,
    },

SRST
ERST

    {
        .name       = "snapshot_blkdev",
        .args_type  = "reuse:-n,device:B,snapshot-file:s?,format:s?",
        .params     = "[-n] device [new-image-file] [format]",
        .help       = "",
        .cmd        = hmp_snapshot_blkdev,
    },

SRST
ERST

    {
        .name       = "snapshot_blkdev_internal",
        .args_type  = "device:B,name:s",
        .params     = "device name",
        .help       = "",
        .cmd        = hmp_snapshot_blkdev_internal,
    },

SRST
ERST

    {
        .name       = "snapshot_delete_blkdev_internal",
        .args_type  = "device:B,name:s,id:s?",
        .params     = "device name [id]",
        .help       = "",
        .cmd        = hmp_snapshot_delete_blkdev_internal,
    },

SRST
ERST

DEFHEADING(Block jobs)

    {
        .name       = "block_stream",
        .args_type  = "device:B,speed:o?,base:s?",
        .params     = "device [speed [base]]",
        .help       = "",
        .cmd        = hmp_block_stream,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "block_job_set_speed",
        .args_type  = "device:B,speed:o",
        .params     = "device speed",
        .help       = "",
        .cmd        = hmp_block_job_set_speed,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "block_job_cancel",
        .args_type  = "force:-f,device:B",
        .params     = "[-f] device",
        .help       = "",
        .cmd        = hmp_block_job_cancel,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "block_job_pause",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "",
        .cmd        = hmp_block_job_pause,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "block_job_resume",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "",
        .cmd        = hmp_block_job_resume,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "block_job_complete",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "",
        .cmd        = hmp_block_job_complete,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "drive_mirror",
        .args_type  = "reuse:-n,full:-f,device:B,target:s,format:s?",
        .params     = "[-n] [-f] device target [format]",
        .help       = "",
        .cmd        = hmp_drive_mirror,
    },

SRST
ERST

    {
        .name       = "drive_backup",
        .args_type  = "reuse:-n,full:-f,compress:-c,device:B,target:s,format:s?",
        .params     = "[-n] [-f] [-c] device target [format]",
        .help       = "",
        .cmd        = hmp_drive_backup,
    },

SRST
ERST

DEFHEADING(NBD exports)

    {
        .name       = "nbd_server_start",
        .args_type  = "all:-a,writable:-w,uri:s",
        .params     = "nbd_server_start [-a] [-w] host:port",
        .help       = "listen for NBD clients, with -a export every drive at once (-w: writable)",
        .cmd        = hmp_nbd_server_start,
        .flags      = "p",
    },

SRST
``nbd_server_start`` [``-a``] [``-w``] *host*:*port*
  Listen for NBD clients on *host*:*port* or ``unix:``\ *path*. With ``-a`` every drive is
  exported under its own name, with ``-w`` too for writing as well.
ERST

    {
        .name       = "nbd_server_add",
        .args_type  = "writable:-w,device:B,name:s?",
        .params     = "nbd_server_add [-w] device [name]",
        .help       = "export a drive to NBD clients (-w: for writing too)",
        .cmd        = hmp_nbd_server_add,
        .flags      = "p",
    },

SRST
``nbd_server_add`` [``-w``] *device* [*name*]
  Export the drive *device* as *name*, or under its own name. It is read-only without ``-w``.
ERST

    {
        .name       = "nbd_server_remove",
        .args_type  = "force:-f,name:s",
        .params     = "nbd_server_remove [-f] name",
        .help       = "take an export away from NBD clients (-f: from connected ones too)",
        .cmd        = hmp_nbd_server_remove,
        .command_completion = nbd_server_remove_completion,
        .flags      = "p",
    },

SRST
``nbd_server_remove`` [``-f``] *name*
  Take the export *name* away. While clients are connected to it, it stays, unless ``-f`` is
  given, which closes their connections.
ERST

    {
        .name       = "nbd_server_stop",
        .args_type  = "",
        .params     = "nbd_server_stop",
        .help       = "close the NBD server and every connection to it",
        .cmd        = hmp_nbd_server_stop,
        .flags      = "p",
    },

SRST
``nbd_server_stop``
  Take all exports away, close the connections and stop listening.
ERST

DEFHEADING(Migration)

    {
        .name       = "migrate",
        .args_type  = "detach:-d,blk:-b|blk,inc:-i|inc,resume:-r,uri:s",
        .params     = "[-d] [-b] [-i] [-r] uri",
        .help       = "move the machine to another host (-d: do not wait for the end)\n"
                      "\t\t\t -b or blk: copy its disks completely\n"
                      "\t\t\t -i or inc: copy what its disks hold above their backing images\n"
                      "\t\t\t -r: take up a migration that was paused",
        .cmd        = hmp_migrate,
    },

SRST
``migrate`` [``-d``] [``-b``] [``-i``] [``-r``] *uri*
  Move the machine to where *uri* leads: ``tcp:``\ *host*:*port* or ``unix:``\ *path*. With
  ``-d`` it goes on in the background.

  ``-b``, or the word ``blk``, also copies the disks, which the two hosts need not share.
  ``-i``, or the word ``inc``, copies only what they hold above their backing images, which the
  destination must have already. Without either the images are taken to be shared.
ERST

    {
        .name       = "migrate_cancel",
        .args_type  = "",
        .params     = "",
        .help       = "stop the migration that is under way",
        .cmd        = hmp_migrate_cancel,
    },

SRST
``migrate_cancel``
  Stop the migration that is under way; the source runs on. It is refused once the destination
  has been told to take over.
ERST

    {
        .name       = "migrate_continue",
        .args_type  = "state:s",
        .params     = "state",
        .help       = "",
        .cmd        = hmp_migrate_continue,
    },

SRST
ERST

    {
        .name       = "migrate_incoming",
        .args_type  = "uri:s",
        .params     = "uri",
        .help       = "wait for a migration, after a start with -incoming defer",
        .cmd        = hmp_migrate_incoming,
    },

SRST
``migrate_incoming`` *uri*
  Wait at *uri* for a migration to come in. The program must have been started with
  ``-incoming defer``.
ERST

    {
        .name       = "migrate_recover",
        .args_type  = "uri:s",
        .params     = "uri",
        .help       = "",
        .cmd        = hmp_migrate_recover,
    },

SRST
ERST

    {
        .name       = "migrate_pause",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_migrate_pause,
    },

SRST
ERST

    {
        .name       = "migrate_set_capability",
        .args_type  = "capability:s,state:b",
        .params     = "capability state",
        .help       = "",
        .cmd        = hmp_migrate_set_capability,
        .command_completion = migrate_set_capability_completion,
    },

SRST
ERST

    {
        .name       = "migrate_set_parameter",
        .args_type  = "parameter:s,value:s",
        .params     = "parameter value",
        .help       = "set one parameter of migrations",
        .cmd        = hmp_migrate_set_parameter,
        .command_completion = migrate_set_parameter_completion,
    },

SRST
``migrate_set_parameter`` *parameter* *value*
  Set one parameter, also while a migration is under way. ``max-bandwidth`` takes a size to send
  in each second, in MiB without a suffix; ``downtime-limit`` a time in milliseconds.
ERST

    {
        .name       = "migrate_start_postcopy",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_migrate_start_postcopy,
    },

SRST
ERST

    {
        .name       = "migrate_resolve",
        .args_type  = "action:s",
        .params     = "keep|release",
        .help       = "decide which side has the disks when a handover is in doubt",
        .cmd        = hmp_migrate_resolve,
        .command_completion = migrate_resolve_completion,
    },

SRST
``migrate_resolve`` ``keep``\ \|\ ``release``
  Decide about disks of which this side does not know whether the other side runs with them,
  because the connection was lost while they were handed over. ``keep`` says that they are this
  side's: it may run with them. ``release`` says that they are the other side's: this side leaves
  them alone. Look at the other side first, and give the opposite answer there; ``keep`` on both
  sides destroys the disks. QEMU has no such command.
ERST

    {
        .name       = "migrate_set_speed",
        .args_type  = "value:o",
        .params     = "value",
        .help       = "limit what a migration sends in a second (in MiB without a suffix)",
        .cmd        = hmp_migrate_set_speed,
    },

SRST
``migrate_set_speed`` *value*
  The older way to write ``migrate_set_parameter max-bandwidth`` *value*.
ERST

    {
        .name       = "migrate_set_downtime",
        .args_type  = "value:T",
        .params     = "value",
        .help       = "limit how long a migration may stop the machine (in seconds)",
        .cmd        = hmp_migrate_set_downtime,
    },

SRST
``migrate_set_downtime`` *value*
  The older way to write ``migrate_set_parameter downtime-limit``: in seconds, or with ``ms``,
  ``us`` or ``ns`` behind the number.
ERST

    {
        .name       = "x_colo_lost_heartbeat",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_x_colo_lost_heartbeat,
    },

SRST
ERST

    {
        .name       = "calc_dirty_rate",
        .args_type  = "dirty_ring:-r,dirty_bitmap:-b,second:l,sample_pages_per_GB:l?",
        .params     = "[-r] [-b] second [sample_pages_per_GB]",
        .help       = "",
        .cmd        = hmp_calc_dirty_rate,
    },

SRST
ERST

    {
        .name       = "set_vcpu_dirty_limit",
        .args_type  = "dirty_rate:l,cpu_index:l?",
        .params     = "dirty_rate [cpu_index]",
        .help       = "",
        .cmd        = hmp_set_vcpu_dirty_limit,
    },

SRST
ERST

    {
        .name       = "cancel_vcpu_dirty_limit",
        .args_type  = "cpu_index:l?",
        .params     = "[cpu_index]",
        .help       = "",
        .cmd        = hmp_cancel_vcpu_dirty_limit,
    },

SRST
ERST

    {
        .name       = "client_migrate_info",
        .args_type  = "protocol:s,hostname:s,port:i?,tls-port:i?,cert-subject:s?",
        .params     = "protocol hostname port tls-port cert-subject",
        .help       = "",
        .cmd        = hmp_client_migrate_info,
    },

SRST
ERST

#if defined(TARGET_S390X)
    {
        .name       = "migration_mode",
        .args_type  = "mode:i",
        .params     = "mode",
        .help       = "",
        .cmd        = hmp_migrationmode,
    },
#endif

SRST
ERST

    {
        .name       = "announce_self",
        .args_type  = "interfaces:s?,id:s?",
        .params     = "[interfaces] [id]",
        .help       = "",
        .cmd        = hmp_announce_self,
    },

SRST
ERST

DEFHEADING(Objects)

    {
        .name       = "object_add",
        .args_type  = "object:S",
        .params     = "[qom-type=]type,id=str[,prop=value][,...]",
        .help       = "",
        .cmd        = hmp_object_add,
        .command_completion = object_add_completion,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "object_del",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "",
        .cmd        = hmp_object_del,
        .command_completion = object_del_completion,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "qom-list",
        .args_type  = "path:s?",
        .params     = "path",
        .help       = "",
        .cmd        = hmp_qom_list,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "qom-get",
        .args_type  = "path:s,property:s",
        .params     = "path property",
        .help       = "",
        .cmd        = hmp_qom_get,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "qom-set",
        .args_type  = "json:-j,path:s,property:s,value:S",
        .params     = "[-j] path property value",
        .help       = "",
        .cmd        = hmp_qom_set,
        .flags      = "p",
    },

SRST
ERST

DEFHEADING(Character devices)

    {
        .name       = "chardev-add",
        .args_type  = "args:s",
        .params     = "args",
        .help       = "",
        .cmd        = hmp_chardev_add,
        .command_completion = chardev_add_completion,
    },

SRST
ERST

    {
        .name       = "chardev-change",
        .args_type  = "id:s,args:s",
        .params     = "id args",
        .help       = "",
        .cmd        = hmp_chardev_change,
    },

SRST
ERST

    {
        .name       = "chardev-remove",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "",
        .cmd        = hmp_chardev_remove,
        .command_completion = chardev_remove_completion,
    },

SRST
ERST

    {
        .name       = "chardev-send-break",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "",
        .cmd        = hmp_chardev_send_break,
        .command_completion = chardev_remove_completion,
    },

SRST
ERST

    {
        .name       = "ringbuf_write",
        .args_type  = "device:s,data:s",
        .params     = "device data",
        .help       = "",
        .cmd        = hmp_ringbuf_write,
        .command_completion = ringbuf_write_completion,
    },

SRST
ERST

    {
        .name       = "ringbuf_read",
        .args_type  = "device:s,size:i",
        .params     = "device size",
        .help       = "",
        .cmd        = hmp_ringbuf_read,
        .command_completion = ringbuf_write_completion,
    },

SRST
ERST

DEFHEADING(CPU and memory)

    {
        .name       = "cpu",
        .args_type  = "index:i",
        .params     = "index",
        .help       = "",
        .cmd        = hmp_cpu,
    },

SRST
ERST

    {
        .name       = "x",
        .args_type  = "fmt:/,addr:l",
        .params     = "/fmt addr",
        .help       = "",
        .cmd        = hmp_memory_dump,
    },

SRST
ERST

    {
        .name       = "xp",
        .args_type  = "fmt:/,addr:l",
        .params     = "/fmt addr",
        .help       = "",
        .cmd        = hmp_physical_memory_dump,
    },

SRST
ERST

    {
        .name       = "gpa2hva",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "",
        .cmd        = hmp_gpa2hva,
    },

SRST
ERST

    {
        .name       = "gpa2hpa",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "",
        .cmd        = hmp_gpa2hpa,
    },

SRST
ERST

    {
        .name       = "gva2gpa",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "",
        .cmd        = hmp_gva2gpa,
    },

SRST
ERST

    {
        .name       = "i",
        .args_type  = "fmt:/,addr:i,index:i.",
        .params     = "/fmt addr",
        .help       = "",
        .cmd        = hmp_ioport_read,
    },

SRST
ERST

    {
        .name       = "o",
        .args_type  = "fmt:/,addr:i,val:i",
        .params     = "/fmt addr value",
        .help       = "",
        .cmd        = hmp_ioport_write,
    },

SRST
ERST

    {
        .name       = "memsave",
        .args_type  = "val:l,size:i,filename:s",
        .params     = "addr size file",
        .help       = "",
        .cmd        = hmp_memsave,
    },

SRST
ERST

    {
        .name       = "pmemsave",
        .args_type  = "val:l,size:i,filename:s",
        .params     = "addr size file",
        .help       = "",
        .cmd        = hmp_pmemsave,
    },

SRST
ERST

    {
        .name       = "dump-guest-memory",
        .args_type  = "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,filename:F,begin:l?,length:l?",
        .params     = "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
        .help       = "",
        .cmd        = hmp_dump_guest_memory,
    },

SRST
ERST

#if defined(TARGET_S390X)
    {
        .name       = "dump-skeys",
        .args_type  = "filename:F",
        .params     = "",
        .help       = "",
        .cmd        = hmp_dump_skeys,
    },
#endif

SRST
ERST

    {
        .name       = "dumpdtb",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "",
        .cmd        = hmp_dumpdtb,
    },

SRST
ERST

    {
        .name       = "sum",
        .args_type  = "start:i,size:i",
        .params     = "addr size",
        .help       = "",
        .cmd        = hmp_sum,
    },

SRST
ERST

    {
        .name       = "mce",
        .args_type  = "broadcast:-b,cpu_index:i,bank:i,status:l,mcg_status:l,addr:l,misc:l",
        .params     = "[-b] cpu bank status mcgstatus addr misc",
        .help       = "",
        .cmd        = hmp_mce,
    },

SRST
ERST

    {
        .name       = "balloon",
        .args_type  = "value:M",
        .params     = "target",
        .help       = "",
        .cmd        = hmp_balloon,
    },

SRST
ERST

    {
        .name       = "singlestep",
        .args_type  = "option:s?",
        .params     = "[on|off]",
        .help       = "",
        .cmd        = hmp_singlestep,
    },

SRST
ERST

    {
        .name       = "one-insn-per-tb",
        .args_type  = "option:s?",
        .params     = "[on|off]",
        .help       = "",
        .cmd        = hmp_one_insn_per_tb,
    },

SRST
ERST

    {
        .name       = "gdbserver",
        .args_type  = "device:s?",
        .params     = "[device]",
        .help       = "",
        .cmd        = hmp_gdbserver,
    },

SRST
ERST

    {
        .name       = "replay_break",
        .args_type  = "icount:l",
        .params     = "icount",
        .help       = "",
        .cmd        = hmp_replay_break,
    },

SRST
ERST

    {
        .name       = "replay_delete_break",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_replay_delete_break,
    },

SRST
ERST

    {
        .name       = "replay_seek",
        .args_type  = "icount:l",
        .params     = "icount",
        .help       = "",
        .cmd        = hmp_replay_seek,
    },

SRST
ERST

DEFHEADING(Devices)

    {
        .name       = "device_add",
        .args_type  = "device:O",
        .params     = "driver[,prop=value][,...]",
        .help       = "",
        .cmd        = hmp_device_add,
        .command_completion = device_add_completion,
    },

SRST
ERST

    {
        .name       = "device_del",
        .args_type  = "id:s",
        .params     = "device",
        .help       = "",
        .cmd        = hmp_device_del,
        .command_completion = device_del_completion,
    },

SRST
ERST

    {
        .name       = "pcie_aer_inject_error",
        .args_type  = "advisory_non_fatal:-a,correctable:-c,id:s,error_status:s,header0:i?,header1:i?,header2:i?,header3:i?,prefix0:i?,prefix1:i?,prefix2:i?,prefix3:i?",
        .params     = "[-a] [-c] id <error_status> [<tlp header> [<tlp header prefix>]]",
        .help       = "",
        .cmd        = hmp_pcie_aer_inject_error,
    },

SRST
ERST

    {
        .name       = "xen-event-inject",
        .args_type  = "port:i",
        .params     = "port",
        .help       = "",
        .cmd        = hmp_xen_event_inject,
    },

SRST
ERST

    {
        .name       = "xen-event-list",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = hmp_xen_event_list,
    },

SRST
ERST

DEFHEADING(Networks)

    {
        .name       = "netdev_add",
        .args_type  = "netdev:O",
        .params     = "[user|tap|socket|stream|dgram|vde|bridge|hubport|netmap|vhost-user|vmnet-host|vmnet-shared|vmnet-bridged],id=str[,prop=value][,...]",
        .help       = "",
        .cmd        = hmp_netdev_add,
        .command_completion = netdev_add_completion,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "netdev_del",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "",
        .cmd        = hmp_netdev_del,
        .command_completion = netdev_del_completion,
        .flags      = "p",
    },

SRST
ERST

    {
        .name       = "set_link",
        .args_type  = "name:s,up:b",
        .params     = "name on|off",
        .help       = "",
        .cmd        = hmp_set_link,
        .command_completion = set_link_completion,
    },

SRST
ERST

    {
        .name       = "hostfwd_add",
        .args_type  = "arg1:s,arg2:s?",
        .params     = "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
        .help       = "",
        .cmd        = hmp_hostfwd_add,
    },

SRST
ERST

    {
        .name       = "hostfwd_remove",
        .args_type  = "arg1:s,arg2:s?",
        .params     = "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
        .help       = "",
        .cmd        = hmp_hostfwd_remove,
    },

SRST
ERST

DEFHEADING(Screens, keyboards and sound)

    {
        .name       = "screendump",
        .args_type  = "filename:F,format:-fs,device:s?,head:i?",
        .params     = "filename [-f format] [device [head]]",
        .help       = "",
        .cmd        = hmp_screendump,
    },

SRST
ERST

    {
        .name       = "sendkey",
        .args_type  = "keys:s,hold-time:i?",
        .params     = "keys [hold_ms]",
        .help       = "",
        .cmd        = hmp_sendkey,
        .command_completion = sendkey_completion,
    },

SRST
ERST

    {
        .name       = "mouse_move",
        .args_type  = "dx_str:s,dy_str:s,dz_str:s?",
        .params     = "dx dy [dz]",
        .help       = "",
        .cmd        = hmp_mouse_move,
    },

SRST
ERST

    {
        .name       = "mouse_button",
        .args_type  = "button_state:i",
        .params     = "state",
        .help       = "",
        .cmd        = hmp_mouse_button,
    },

SRST
ERST

    {
        .name       = "mouse_set",
        .args_type  = "index:i",
        .params     = "index",
        .help       = "",
        .cmd        = hmp_mouse_set,
    },

SRST
ERST

    {
        .name       = "set_password",
        .args_type  = "protocol:s,password:s,display:-ds,connected:s?",
        .params     = "protocol password [-d display] [action-if-connected]",
        .help       = "",
        .cmd        = hmp_set_password,
    },

SRST
ERST

    {
        .name       = "expire_password",
        .args_type  = "protocol:s,time:s,display:-ds",
        .params     = "protocol time [-d display]",
        .help       = "",
        .cmd        = hmp_expire_password,
    },

SRST
ERST

    {
        .name       = "stopcapture",
        .args_type  = "n:i",
        .params     = "capture index",
        .help       = "",
        .cmd        = hmp_stopcapture,
    },

SRST
ERST

    {
        .name       = "wavcapture",
        .args_type  = "path:F,audiodev:s,freq:i?,bits:i?,nchannels:i?",
        .params     = "path audiodev [frequency [bits [channels]]]",
        .help       = "",
        .cmd        = hmp_wavcapture,
    },

SRST
ERST
