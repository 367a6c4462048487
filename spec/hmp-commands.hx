HXCOMM The commands of the monitor. Parsing, help, completion, highlighting and the reference
HXCOMM manual all read this table. The format is QEMU's, with two additions: a flag may name a bare
HXCOMM word that means the same (blk:-b|blk), and seconds (T?) are left out if no number is there.
HXCOMM Text between SRST and ERST is the manual entry of the command above it.
HXCOMM DEFHEADING starts a section of the manual.
HXCOMM Five fields are not QEMU's. .also: words that people type who mean the command. .forms: how its
HXCOMM arguments are written, which help shows at a terminal. .needs: a part of a machine without which
HXCOMM the command has no effect. .side = "console": no QEMU has it, and qmon runs it itself, also when it is
HXCOMM connected to a QEMU. .ours_with: a QMP command of qmon's; on a QEMU behind a console that has it, the command is
HXCOMM written as here, and qmon decides which lines the QEMU gets. .answers: letters of flags that qmon answers
HXCOMM on a QEMU, too.

DEFHEADING(General)

    {
        .name       = "help|?",
        .args_type  = "name:S?",
        .params     = "[cmd]",
        .help       = "list the commands, or show the usage of one (-v: its manual page)",
        .cmd        = hmp_help,
        .also       = "man|manual|commands|usage|apropos|h|-h|-help|--help|-?",
        .command_completion = help_completion,
        .flags      = "p",
    },

SRST
``help`` or ``?`` [*cmd*]
  List every command with its arguments, or only *cmd*. ``help info`` lists the subjects of
  ``info``, and ``help info block`` shows one of them. ``help -v`` *cmd* shows the manual entry of
  *cmd*; QEMU has no ``-v``.

  At a terminal ``help`` lists tasks, such as ``moving``; ``help`` *task* shows the lines to type.
  ``help`` *word* searches for the commands about *word*. ``help all`` lists every command that has an
  effect on this machine, ``help -a all`` the others too.

  In a script::

    (qemu) help block_resize
    block_resize device size -- ...
    (qemu) help info version
    info version  -- ...
    (qemu) help -v stop
    stop or s
    ...
    (qemu) help nosuch
    unknown command: 'nosuch'
ERST

    {
        .name       = "info",
        .args_type  = "item:s?",
        .params     = "[subcommand]",
        .help       = "show part of the machine's state",
        .cmd        = hmp_info_help,
        .sub_table  = hmp_info_cmds,
        .flags      = "p",
    },

SRST
``info`` *subcommand*
  Show the part of the machine's state that *subcommand* names. Without *subcommand*, list all of
  them.

  ::

    (qemu) info nosuch
    unknown command: 'info nosuch'
    (qemu) info
    info balloon  -- ...
    ...
ERST

    {
        .name       = "quit|q",
        .args_type  = "",
        .params     = "",
        .help       = "end the program",
        .cmd        = hmp_quit,
        .also       = "logout|logoff|bye|:q|:q!|:wq|:x|^D|^]",
        .flags      = "p",
    },

SRST
``quit`` or ``q``
  End the program. qmon flushes the drives and releases their images first. A migration that is
  under way is cancelled, unless the destination has already been told to take over. At a terminal,
  ``quit`` first names that migration and any connected NBD clients, and asks for confirmation.

  ::

    (qemu) quit
ERST

    {
        .name       = "exit",
        .args_type  = "",
        .params     = "",
        .help       = "leave a program that is connected to by -connect",
        .cmd        = hmp_exit,
        .side       = "console",
    },

SRST
``exit``
  Leave the program that ``-connect`` leads to, as Ctrl-D does. It goes on running, with its disks, clients
  and migrations. A monitor of qmon's own machine refuses it: there ``quit`` ends the machine. QEMU has no
  such command.

  ::

    (qemu) exit
    exit: this monitor is the machine's own: 'quit' ends both
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
  (decimal), ``u`` (unsigned decimal), ``o`` (octal) or ``c`` (character). A line that gives no
  *fmt* uses the last one given.

  ::

    (qemu) print/d (1 + 2) * 3
    9
    (qemu) print/x 255
    0xff
    (qemu) p 16
    0x10
    (qemu) print/c 65
    'A'
ERST

    {
        .name       = "sync-profile",
        .args_type  = "op:s?",
        .params     = "[on|off|reset]",
        .help       = "show or set whether lock waits are measured",
        .cmd        = hmp_sync_profile,
    },

SRST
``sync-profile`` [``on``\|\ ``off``\|\ ``reset``]
  Measure how long threads wait for locks. qmon has no such measurement.

  ::

    (qemu) sync-profile
    qmon does not measure how long it waits for locks
ERST

    {
        .name       = "exit_preconfig",
        .args_type  = "",
        .params     = "",
        .help       = "leave the configuration phase of -preconfig",
        .cmd        = hmp_exit_preconfig,
        .flags      = "p",
    },

SRST
``exit_preconfig``
  Leave the phase in which a QEMU started with ``-preconfig`` can still be configured. qmon has no
  such phase and refuses the command::

    (qemu) exit_preconfig
    Error: The command is permitted only before machine initialization
ERST

    {
        .name       = "log",
        .args_type  = "items:s",
        .params     = "item1[,...]",
        .help       = "choose which items the log records in detail",
        .cmd        = hmp_log,
    },

SRST
``log`` *item*\ [``,``\ *item*...]
  Log these items in detail, and no others. ``guest_errors`` logs the protocol errors of NBD
  clients, ``unimp`` logs why the client of a monitor was not served, ``all`` logs everything, and
  ``none`` switches detailed logging off. An unknown item prints the list of items.

  ``trace:``\ *pattern* also switches trace events on, as ``trace-event`` does. They stay on until
  ``trace-event`` switches them off. ``trace:help`` lists the trace events.

  QEMU's other items are accepted without effect, because no guest code runs here.

  ::

    (qemu) log guest_errors,trace:handle_hmp_command
    (qemu) info trace-events handle_hmp*
    handle_hmp_command : state 1
    (qemu) trace-event handle_hmp_command off
    (qemu) log none
ERST

    {
        .name       = "logfile",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "write the log to a file",
        .cmd        = hmp_logfile,
    },

SRST
``logfile`` *filename*
  Write the log to *filename* from now on. ``%d`` in the name stands for the process id and may
  occur once; any other ``%`` is refused. A disk image in use is refused. If the file can't be
  opened, the log stays where it was. qmon appends to an existing file; QEMU empties it.

  ::

    (qemu) logfile qmon-%d.log
    (qemu) logfile 100%
    Bad logfile template: 100%
    (qemu) logfile nosuch/qmon.log
    Error opening logfile nosuch/qmon.log: No such file or directory
ERST

    {
        .name       = "trace-event",
        .args_type  = "name:s,option:b,vcpu:i?",
        .params     = "name on|off [vcpu]",
        .help       = "switch trace events on or off",
        .cmd        = hmp_trace_event,
        .command_completion = trace_event_completion,
    },

SRST
``trace-event`` *name* ``on``\|\ ``off`` [*vcpu*]
  Switch a trace event on or off. *name* may be a pattern with ``*``. Each time an event that is on
  happens, qmon writes a line to the log. Input lines and commands are logged in full, including any
  password in them. ``info trace-events`` lists the events. They are qmon's own, and have QEMU's
  name where QEMU has the same event. *vcpu* is refused, because the machine has no CPU.

  ::

    (qemu) trace-event qmp_*_query_status on
    (qemu) info trace-events qmp_*_query_status
    qmp_enter_query_status : state 1
    qmp_exit_query_status : state 1
    (qemu) trace-event qmp_*_query_status off
    (qemu) trace-event nosuch on
    unknown event "nosuch"
ERST

    {
        .name       = "trace-file",
        .args_type  = "op:s?,arg:F?",
        .params     = "on|off|flush|set [arg]",
        .help       = "set where trace events are written",
        .cmd        = hmp_trace_file,
    },

SRST
``trace-file`` ``on``\|\ ``off``\|\ ``flush``\|\ ``set`` [*arg*]
  Control the file that trace events are written to. Only a QEMU that was built with such files has
  one. qmon writes trace events to its log and refuses the command. ``logfile`` sends the log to a
  file.
ERST

    {
        .name       = "getfd",
        .args_type  = "fdname:s",
        .params     = "getfd name",
        .help       = "store a file descriptor that was sent with this line",
        .cmd        = hmp_getfd,
        .flags      = "p",
    },

SRST
``getfd`` *name*
  Store the file descriptor that the client sent with this line (``SCM_RIGHTS``, on a Unix socket)
  under *name*. *name* must not begin with a digit. If *name* is already in use, its old descriptor
  is closed. All monitors share these names; in QEMU each monitor has its own.

  ::

    (qemu) getfd fd1
    Error: No file descriptor supplied via SCM_RIGHTS
ERST

    {
        .name       = "closefd",
        .args_type  = "fdname:s",
        .params     = "closefd name",
        .help       = "close a stored file descriptor",
        .cmd        = hmp_closefd,
        .flags      = "p",
    },

SRST
``closefd`` *name*
  Close the file descriptor that ``getfd`` stored under *name*. A descriptor that a command has used
  is no longer stored.

  ::

    (qemu) closefd fd1
    Error: File descriptor named 'fd1' not found
ERST

DEFHEADING(Running and stopping)

    {
        .name       = "cont|c",
        .args_type  = "force:-f",
        .params     = "[-f]",
        .help       = "resume the machine (-f: even if its disks have moved to another host)",
        .cmd        = hmp_cont,
        .ours_with  = "x-qmon-migrate-disks",
        .also       = "resume|continue|unpause",
    },

SRST
``cont`` or ``c`` [``-f``]
  Resume a paused machine. After a migration the disks belong to the destination, and ``cont`` is
  refused. ``-f`` resumes anyway. First make sure that the destination will never run with these
  disks again: two machines that write to one disk destroy it. QEMU has no ``-f``; on a console that can
  move a QEMU's guest it is the same, and a guest that is on its way never runs twice.

  ::

    (qemu) stop
    (qemu) cont
    (qemu) info status
    VM status: running
ERST

    {
        .name       = "stop|s",
        .args_type  = "",
        .params     = "",
        .help       = "pause the machine; requests to its drives wait",
        .cmd        = hmp_stop,
        .also       = "pause|suspend|halt",
    },

SRST
``stop`` or ``s``
  Pause the machine. Requests that are under way finish first; later requests wait until ``cont``.

  ::

    (qemu) stop
    (qemu) info status
    VM status: paused
ERST

    {
        .name       = "system_reset",
        .args_type  = "",
        .params     = "",
        .help       = "reset the machine",
        .cmd        = hmp_system_reset,
    },

SRST
``system_reset``
  Reset the machine. There is no guest to restart: qmon sends the event ``RESET``, and clients of
  the exports notice nothing. A paused machine changes to ``prelaunch``. If a migration has handed
  over the disks, the state stays ``postmigrate``; QEMU changes it to ``prelaunch``.

  ::

    (qemu) stop
    (qemu) info status
    VM status: paused
    (qemu) system_reset
    (qemu) info status
    VM status: paused (prelaunch)
ERST

    {
        .name       = "system_powerdown",
        .args_type  = "",
        .params     = "",
        .help       = "ask the guest to power off",
        .cmd        = hmp_system_powerdown,
    },

SRST
``system_powerdown``
  Ask the guest to power off. There is no guest: qmon sends the event ``POWERDOWN``, and the machine
  does not change. Use ``quit`` to end the program.

  ::

    (qemu) system_powerdown
    (qemu) info status
    VM status: running
ERST

    {
        .name       = "system_wakeup",
        .args_type  = "",
        .params     = "",
        .help       = "wake a suspended guest",
        .cmd        = hmp_system_wakeup,
    },

SRST
``system_wakeup``
  Wake a suspended guest. A machine without a guest refuses the command::

    (qemu) system_wakeup
    Error: wake-up from suspend is not supported by this guest
ERST

    {
        .name       = "boot_set",
        .args_type  = "bootdevice:s",
        .params     = "bootdevice",
        .help       = "set the order of the guest's boot devices",
        .cmd        = hmp_boot_set,
    },

SRST
``boot_set`` *bootdevice*
  Set the order in which the guest tries its boot devices. The embedded machine has no firmware and
  refuses the command::

    (qemu) boot_set n
    no function defined to set boot device list for this architecture
ERST

    {
        .name       = "watchdog_action",
        .args_type  = "action:s",
        .params     = "[reset|shutdown|poweroff|pause|debug|none]",
        .help       = "choose what happens when the guest's watchdog expires",
        .cmd        = hmp_watchdog_action,
        .needs      = "guest",
        .command_completion = watchdog_action_completion,
    },

SRST
``watchdog_action`` *action*
  Choose what happens when the guest's watchdog expires: ``reset``, ``shutdown``, ``poweroff``,
  ``pause``, ``debug``, ``none`` or ``inject-nmi``. The embedded machine has no watchdog: it accepts
  any of these without effect.

  ::

    (qemu) watchdog_action pause
    (qemu) watchdog_action explode
    Error: invalid parameter value: explode
ERST

    {
        .name       = "nmi",
        .args_type  = "",
        .params     = "",
        .help       = "send the CPU a non-maskable interrupt",
        .cmd        = hmp_nmi,
    },

SRST
``nmi``
  Send the CPU a non-maskable interrupt. The embedded machine has no CPU and refuses the command::

    (qemu) nmi
    Error: this feature or command is not currently supported
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
        .help       = "add a drive",
        .cmd        = hmp_drive_add,
        .forms      = "For example (<slot> is ignored: write 0):\n"
                      "  drive_add 0 file=PATH,format=raw,id=NAME\n"
                      "  drive_add 0 file=PATH,format=qcow2,id=NAME,readonly=on",
    },

SRST
``drive_add`` *addr* ``file=``\ *file*\ ``,if=none``\ [``,id=``\ *id*][``,format=``\ *format*][``,readonly=on``]
  Open the image *file* as a new drive. Without ``file`` the drive is empty, and ``change`` inserts
  an image later. The options are those of ``-drive``; *file* may be a ``json:`` name, and with
  ``snapshot=on`` writes go to a temporary overlay. Without ``id`` the drive is named ``none``
  and a number. Without ``node-name`` its node gets a generated name. *addr* is ignored: write
  ``0``. In QEMU it is the address of a PCI controller.

  The machine has no buses and accepts only ``if=none``. ``bps=``, ``iops=`` and similar options set
  the limits that ``block_set_io_throttle`` changes. Options about caches and errors are checked but
  have no effect. ``-n`` adds a block node, as ``-blockdev`` does; its ``node-name`` is the drive's id.

  If another drive already writes to the same image, the new drive is added, but nothing can use it
  until the other drive is removed.

  ::

    (qemu) drive_add 0 if=none,id=tray
    OK
    (qemu) drive_add 0 if=none,id=d0,file=other.img,format=raw
    Duplicate ID 'd0' for drive
    (qemu) info block tray
    ...
    tray: [not inserted]
        Removable device: not locked, tray closed
ERST

    {
        .name       = "drive_del",
        .args_type  = "id:B",
        .params     = "device",
        .help       = "remove a drive",
        .cmd        = hmp_drive_del,
    },

SRST
``drive_del`` *device*
  Remove the drive *device* and its exports. Requests that are under way finish first; then the
  image is flushed and closed. At a terminal you are asked for confirmation while NBD clients use
  the drive. The command is refused while a migration or another command uses the drive.

  ::

    (qemu) drive_del ro
    (qemu) drive_del ro
    Device 'ro' not found
ERST

    {
        .name       = "block_resize",
        .args_type  = "device:B,size:o",
        .params     = "device size",
        .help       = "change a drive's size",
        .cmd        = hmp_block_resize,
        .flags      = "p",
    },

SRST
``block_resize`` *device* *size*
  Grow or shrink the drive's image to *size*, in MiB unless a suffix says otherwise. New space reads
  as zeros. Data beyond the new end is lost; at a terminal you are asked for confirmation first.
  Guests' requests wait meanwhile. The command is refused for a read-only drive, while a migration
  uses the drive, and while the drive is exported, because NBD clients rely on the size they were
  given.

  ::

    (qemu) block_resize d0 20M
    (qemu) qemu-io d0 length
    20 MiB
    (qemu) block_resize ro 20M
    Error: Image is read-only
ERST

    {
        .name       = "commit",
        .args_type  = "device:B",
        .params     = "device|all",
        .help       = "write an overlay's data to its backing image",
        .cmd        = hmp_commit,
    },

SRST
``commit`` *device*\ \|\ ``all``
  Write the data of the drive's overlay to its backing image, and empty the overlay. The backing
  image grows to the drive's size. ``all`` does this for every drive that has a backing image.
  Guests' requests wait meanwhile. The overlay is emptied only when all of its data is on stable
  storage in the backing image, so a failure loses nothing.

  The command is refused for a drive without a backing image. Unlike QEMU, qmon also refuses an
  overlay with internal snapshots, which would change, and a backing image that another program has
  locked against writing.

  ::

    (qemu) commit d0
    'commit' error for 'd0': Operation not supported
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) qemu-io d0 "write -q -P 7 0 64k"
    (qemu) commit d0
    (qemu) qemu-io d0 map
    16 MiB (0x1000000) bytes not allocated at offset 0 bytes (0x0)
    (qemu) qemu-io d0 "read -q -P 7 0 64k"
    (qemu) commit all
ERST

    {
        .name       = "change",
        .args_type  = "device:B,force:-f,target:F,arg:s?,read-only-mode:s?",
        .params     = "device [-f] filename [format [read-only-mode]]",
        .help       = "replace a drive's image",
        .cmd        = hmp_change,
    },

SRST
``change`` *device* [``-f``] *filename* [*format* [*read-only-mode*]]
  Close the image of the drive *device*, if there is one, and open *filename* in its place. The
  exports of the drive are removed, as by ``eject``. If the new image can't be opened, the old one
  stays. *read-only-mode* is ``retain`` (as before; the default), ``read-only`` or ``read-write``.
  ``-f`` has no effect, because no guest can lock a drive here.

  ::

    (qemu) change d0 nosuch.img raw
    Error: Could not open 'nosuch.img': No such file or directory
    (qemu) change d0 d0.img raw read-only
    (qemu) info block d0
    d0 (#block...): d0.img (raw, read-only)
    ...
ERST

    {
        .name       = "eject",
        .args_type  = "force:-f,device:B",
        .params     = "[-f] device",
        .help       = "remove a drive's image and keep the drive",
        .cmd        = hmp_eject,
    },

SRST
``eject`` [``-f``] *device*
  Flush and close the image of the drive *device*, and remove the drive's exports. The drive stays,
  and is empty. ``-f`` has no effect, because no guest can lock a drive here.

  ::

    (qemu) eject d0
    (qemu) info block d0
    d0: [not inserted]
        Removable device: not locked, tray closed
ERST

    {
        .name       = "block_set_io_throttle",
        .args_type  = "device:B,bps:l,bps_rd:l,bps_wr:l,iops:l,iops_rd:l,iops_wr:l",
        .params     = "device bps bps_rd bps_wr iops iops_rd iops_wr",
        .help       = "limit a drive's bytes and requests per second",
        .cmd        = hmp_block_set_io_throttle,
        .flags      = "p",
    },

SRST
``block_set_io_throttle`` *device* *bps* *bps_rd* *bps_wr* *iops* *iops_rd* *iops_wr*
  Limit how many bytes (*bps*) and requests (*iops*) per second the guests of *device* can transfer:
  in total, by reads (``_rd``) or by writes (``_wr``). 0 sets no limit. A total can't be combined
  with a limit on reads or writes. A burst may use the allowance of a tenth of a second at once. The
  limits are those of the throttle group that *device* is in. The limits apply to NBD clients and
  ``qemu-io``. They do not slow down the reads of a migration, nor requests that must finish before
  the machine stops or a disk is handed over.

  ::

    (qemu) block_set_io_throttle d0 1048576 0 0 0 0 0
    (qemu) info block d0
    ...
        I/O throttling:   bps=1048576 bps_rd=0 ... group=d0
    (qemu) block_set_io_throttle d0 1 2 0 0 0 0
    Error: bps/iops/max total values and read/write values cannot be used at the same time
ERST

    {
        .name       = "qemu-io",
        .args_type  = "qdev:-d,device:B,command:s",
        .params     = "[-d] [device] \"[command]\"",
        .help       = "read, write or inspect a drive with a qemu-io command",
        .cmd        = hmp_qemu_io,
    },

SRST
``qemu-io`` *device* ``"``\ *command*\ ``"``
  Run one command of QEMU's ``qemu-io`` program on a drive: ``read``, ``readv``, ``aio_read``,
  ``write``, ``writev``, ``aio_write``, ``flush``, ``aio_flush``, ``discard``, ``length``,
  ``alloc``, ``map``, ``info`` or ``help``. ``-P`` sets the byte to write, or the byte that a read
  expects. ``-v`` prints the data read, up to 1 MiB. ``-z`` writes zeros; ``-z -u`` may turn the
  range into a hole. ``-q`` prints less. Numbers are in bytes, and take the suffixes ``K M G T P
  E``.

  The command is a guest's request, so a migration also sends what it writes. It works while the
  machine is stopped, too. Writes are refused while a migration is awaited or comes in. The prompt
  returns when an ``aio_`` command has finished. ``-d`` selects a guest's device by its id; this
  machine has none.

  The result is printed on this monitor; QEMU prints it on its standard output. A message about an
  unknown command is printed at a terminal, and logged otherwise.

  ::

    (qemu) qemu-io d0 "read -v 0 17"
    00000000:  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  ................
    00000010:  10  .
    read 17/17 bytes at offset 0
    17 bytes, 1 ops; ...
    (qemu) qemu-io d0 "write -P 5 1M 64k"
    wrote 65536/65536 bytes at offset 1048576
    64 KiB, 1 ops; ...
    (qemu) qemu-io d0 "read -P 6 1M 64k"
    Pattern verification failed at offset 1048576, 65536 bytes
    ...
    (qemu) qemu-io ro "discard 0 64k"
    Block node is read-only
ERST

DEFHEADING(Snapshots)

    {
        .name       = "savevm",
        .args_type  = "name:s?",
        .params     = "tag",
        .help       = "make a snapshot of the machine",
        .cmd        = hmp_savevm,
    },

SRST
``savevm`` [*tag*]
  Make a snapshot of all writable drives at the same moment, inside their images, which must be
  qcow2. Without *tag* its name is made from the time. An existing snapshot of this name is
  replaced. The machine has no state besides its disks, so the snapshot's size is shown as 0.
  Guests' requests wait meanwhile. If one image can't take the snapshot, no image keeps it.

  ::

    (qemu) savevm before
    Error: Device 'd0' is writable but does not support snapshots
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) savevm before
    (qemu) info snapshots
    List of snapshots present on all disks:
    ...
    --        before                0 B ...
ERST

    {
        .name       = "loadvm",
        .args_type  = "name:s",
        .params     = "tag",
        .help       = "restore a snapshot of the machine",
        .cmd        = hmp_loadvm,
        .command_completion = loadvm_completion,
    },

SRST
``loadvm`` *tag*
  Set all writable drives back to their content and size in the snapshot *tag*, made by ``savevm``
  here or in QEMU. The present content is lost. NBD clients are not notified: at a terminal you are
  asked for confirmation while any are connected. If the size of an exported drive would change, the
  command is refused. If one drive fails after another has been restored, the machine is stopped.

  From a snapshot that QEMU made, only the disks are restored. QEMU refuses to load a snapshot that
  qmon made, because it holds only disks.

  ::

    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) savevm before
    (qemu) qemu-io d0 "write -q -P 7 8M 64k"
    (qemu) loadvm before
    (qemu) qemu-io d0 "read -q -P 0 8M 64k"
    (qemu) loadvm never
    Error: Snapshot 'never' does not exist in one or more devices
ERST

    {
        .name       = "delvm",
        .args_type  = "name:s",
        .params     = "tag",
        .help       = "delete a snapshot of the machine",
        .cmd        = hmp_delvm,
        .command_completion = delvm_completion,
    },

SRST
``delvm`` *tag*
  Delete the snapshot *tag* from every writable drive that has it. The command is refused if a
  writable drive's image is not qcow2.

  ::

    (qemu) delvm before
    Error: Device 'd0' is writable but does not support snapshots
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) savevm before
    (qemu) delvm before
    (qemu) info snapshots
    There is no snapshot available.
ERST

    {
        .name       = "snapshot_blkdev",
        .args_type  = "reuse:-n,device:B,snapshot-file:s?,format:s?",
        .params     = "[-n] device [new-image-file] [format]",
        .help       = "snapshot a drive: continue in a new overlay",
        .cmd        = hmp_snapshot_blkdev,
    },

SRST
``snapshot_blkdev`` [``-n``] *device* *new-image-file* [*format*]
  Create an overlay on the drive's image and continue in it, while guests use the drive. The old
  image keeps its present content and becomes the backing image. The drive keeps its throttle
  limits, statistics and exports. Without ``-n`` an existing file is refused unless it is empty.
  With ``-n`` the overlay must exist already: it must be qcow2, have the drive's size, hold no data
  and name the present image as its backing file. QEMU overwrites an existing file, and accepts any
  overlay with ``-n``.

  ::

    (qemu) snapshot_blkdev d0
    Error: Parameter 'snapshot-file' is missing
    (qemu) snapshot_blkdev d0 overlay.img nosuch
    Error: Unknown file format 'nosuch'
    (qemu) snapshot_blkdev d0 ro.img
    Error: Could not create 'ro.img': ...
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) info block d0
    d0 (...): overlay.qcow2 (qcow2)
    ...
        Backing file:     d0.img (chain depth: 1)
ERST

    {
        .name       = "snapshot_blkdev_internal",
        .args_type  = "device:B,name:s",
        .params     = "device name",
        .help       = "snapshot a drive inside its image",
        .cmd        = hmp_snapshot_blkdev_internal,
    },

SRST
``snapshot_blkdev_internal`` *device* *name*
  Make a snapshot of one drive inside its image, which must be qcow2. Guests' requests wait
  meanwhile. The command is refused if the image already has a snapshot of this name.

  ::

    (qemu) snapshot_blkdev_internal d0 before
    Error: Block format 'raw' used by device 'd0' does not support internal snapshots
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) snapshot_blkdev_internal d0 before
    (qemu) snapshot_blkdev_internal d0 before
    Error: Snapshot with name 'before' already exists on device 'd0'
ERST

    {
        .name       = "snapshot_delete_blkdev_internal",
        .args_type  = "device:B,name:s,id:s?",
        .params     = "device name [id]",
        .help       = "delete a snapshot inside a drive's image",
        .cmd        = hmp_snapshot_delete_blkdev_internal,
    },

SRST
``snapshot_delete_blkdev_internal`` *device* *name* [*id*]
  Delete the snapshot *name* inside a drive's image. If *id* is given, it must match too. Space that
  nothing else uses is returned to the file system.

  ::

    (qemu) snapshot_delete_blkdev_internal d0 before
    Error: Failed to get a snapshot list: Operation not supported
    (qemu) snapshot_blkdev d0 overlay.qcow2
    (qemu) snapshot_delete_blkdev_internal d0 before
    Error: Snapshot with id 'null' and name 'before' does not exist on device 'd0'
ERST

DEFHEADING(Block jobs)

    {
        .name       = "block_stream",
        .args_type  = "device:B,speed:o?,base:s?",
        .params     = "device [speed [base]]",
        .help       = "copy the backing images' data into a drive's overlay",
        .cmd        = hmp_block_stream,
        .flags      = "p",
    },

SRST
``block_stream`` *device* [*speed* [*base*]]
  Copy into the drive's overlay the data that only its backing images hold. A drive without a
  backing image has nothing to copy, and the job ends at once. A drive with one is refused here:
  qmon does not stream overlays yet.

  ::

    (qemu) block_stream d0
    (qemu) block_stream d0 1M nosuch
    Error: Can't find 'nosuch' in the backing chain
ERST

    {
        .name       = "block_job_set_speed",
        .args_type  = "device:B,speed:o",
        .params     = "device speed",
        .help       = "limit the speed of a block job",
        .cmd        = hmp_block_job_set_speed,
        .flags      = "p",
    },

SRST
``block_job_set_speed`` *device* *speed*
  Limit how many bytes per second the job on *device* copies. 0 sets no limit.

  ::

    (qemu) block_job_set_speed d0 1M
    Error: Block job 'd0' not found
ERST

    {
        .name       = "block_job_cancel",
        .args_type  = "force:-f,device:B",
        .params     = "[-f] device",
        .help       = "cancel a block job",
        .cmd        = hmp_block_job_cancel,
        .flags      = "p",
    },

SRST
``block_job_cancel`` [``-f``] *device*
  Cancel the job on *device*. A mirror that is ready ends with a complete copy, unless ``-f`` is
  given.

  ::

    (qemu) block_job_cancel d0
    Error: Block job 'd0' not found
ERST

    {
        .name       = "block_job_pause",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "pause a block job",
        .cmd        = hmp_block_job_pause,
        .flags      = "p",
    },

SRST
``block_job_pause`` *device*
  Pause the job on *device* until ``block_job_resume``.

  ::

    (qemu) block_job_pause d0
    Error: Block job 'd0' not found
ERST

    {
        .name       = "block_job_resume",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "resume a block job",
        .cmd        = hmp_block_job_resume,
        .flags      = "p",
    },

SRST
``block_job_resume`` *device*
  Resume a job that ``block_job_pause`` has paused.

  ::

    (qemu) block_job_resume d0
    Error: Block job 'd0' not found
ERST

    {
        .name       = "block_job_complete",
        .args_type  = "device:B",
        .params     = "device",
        .help       = "complete a block job that is ready",
        .cmd        = hmp_block_job_complete,
        .flags      = "p",
    },

SRST
``block_job_complete`` *device*
  Complete a job that is ready. A mirror then switches the drive to the copy.

  ::

    (qemu) block_job_complete d0
    Error: Block job 'd0' not found
ERST

    {
        .name       = "drive_mirror",
        .args_type  = "reuse:-n,full:-f,device:B,target:s,format:s?",
        .params     = "[-n] [-f] device target [format]",
        .help       = "copy a drive and keep the copy up to date",
        .cmd        = hmp_drive_mirror,
    },

SRST
``drive_mirror`` [``-n``] [``-f``] *device* *target* [*format*]
  Copy *device* to *target*, and apply later writes to the copy as well. qmon makes QEMU's checks,
  then refuses the command and creates nothing, because its block jobs can't copy a disk yet.
  ``migrate blk`` copies a drive to another host.

  ::

    (qemu) drive_mirror d0 copy.img nosuch
    Error: Unknown file format 'nosuch'
    (qemu) drive_mirror d0 copy.img raw
    Error: drive-mirror: copying a disk with a block job is not supported: ...
ERST

    {
        .name       = "drive_backup",
        .args_type  = "reuse:-n,full:-f,compress:-c,device:B,target:s,format:s?",
        .params     = "[-n] [-f] [-c] device target [format]",
        .help       = "copy a drive's present content",
        .cmd        = hmp_drive_backup,
    },

SRST
``drive_backup`` [``-n``] [``-f``] [``-c``] *device* *target* [*format*]
  Copy to *target* what *device* holds when the command begins. qmon makes QEMU's checks, then
  refuses the command and creates nothing, because its block jobs can't copy a disk yet.

  ::

    (qemu) drive_backup nosuch copy.img
    Error: Cannot find device='nosuch' nor node-name='nosuch'
ERST

DEFHEADING(NBD exports)

    {
        .name       = "nbd_server_start",
        .args_type  = "all:-a,writable:-w,tls-creds:-ts,tls-authz:-zs,uri:s",
        .params     = "nbd_server_start [-a] [-w] [-t tls-creds] [-z tls-authz] host:port",
        .help       = "start the NBD server (-a: export every drive; -w: writable; -t, -z: with TLS)",
        .cmd        = hmp_nbd_server_start,
        .forms      = "host:port is the address to listen at:\n"
                      "  0.0.0.0:10809  on all addresses of this host\n"
                      "  :10809         on loopback only: for guests on this host\n"
                      "  unix:PATH      on a Unix socket\n"
                      "  fd:NAME        on a socket passed by getfd",
        .flags      = "p",
    },

SRST
``nbd_server_start`` [``-a``] [``-w``] [``-t`` *tls-creds*] [``-z`` *tls-authz*] *host*:*port*
  Listen for NBD clients on *host*:*port* or ``unix:``\ *path*. ``-a`` also exports every drive that
  has an image, under its own name; ``-a -w`` makes these exports writable. If *host* is empty, the
  server listens on 127.0.0.1; QEMU listens on all addresses. ``fd:``\ *name* is a listening socket that a
  QMP client has passed by ``getfd``.

  With ``-t`` clients must use TLS; it names a ``tls-creds-x509`` or ``tls-creds-psk`` object whose endpoint is ``server``.
  ``-z`` names an ``authz-*`` object that decides by the name in the client's certificate. QEMU has both in QMP only.

  ::

    (qemu) nbd_server_start -w unix:nbd.sock
    Error: -w only valid together with -a
    (qemu) nbd_server_start -a -w unix:nbd.sock
    (qemu) nbd_server_start unix:other.sock
    Error: NBD server already running
ERST

    {
        .name       = "nbd_server_add",
        .args_type  = "writable:-w,device:B,name:s?",
        .params     = "nbd_server_add [-w] device [name]",
        .help       = "export a drive to NBD clients (-w: writable)",
        .cmd        = hmp_nbd_server_add,
        .flags      = "p",
    },

SRST
``nbd_server_add`` [``-w``] *device* [*name*]
  Export the drive *device* to NBD clients. The export is named *name*, or by default like the
  drive. It is read-only unless ``-w`` is given; the export of a read-only drive is always
  read-only. An exported drive can't be resized.

  ::

    (qemu) nbd_server_start unix:nbd.sock
    (qemu) nbd_server_add -w d0
    (qemu) nbd_server_add d0
    Error: Block export id 'd0' is already in use
ERST

    {
        .name       = "nbd_server_remove",
        .args_type  = "force:-f,name:s",
        .params     = "nbd_server_remove [-f] name",
        .help       = "remove an NBD export (-f: even if clients are connected)",
        .cmd        = hmp_nbd_server_remove,
        .command_completion = nbd_server_remove_completion,
        .flags      = "p",
    },

SRST
``nbd_server_remove`` [``-f``] *name*
  Remove the export *name*. The command is refused while clients are connected to the export. ``-f``
  closes their connections; at a terminal you are asked for confirmation first.

  ::

    (qemu) nbd_server_start -a unix:nbd.sock
    (qemu) nbd_server_remove d0
    (qemu) nbd_server_remove d0
    Error: Export 'd0' is not found
ERST

    {
        .name       = "nbd_server_stop",
        .args_type  = "",
        .params     = "nbd_server_stop",
        .help       = "stop the NBD server and disconnect its clients",
        .cmd        = hmp_nbd_server_stop,
        .flags      = "p",
    },

SRST
``nbd_server_stop``
  Remove all exports, close all connections and stop listening. At a terminal you are asked for
  confirmation while clients are connected.

  ::

    (qemu) nbd_server_stop
    Error: NBD server not running
ERST

DEFHEADING(Migration)

    {
        .name       = "migrate",
        .args_type  = "trial:-n,detach:-d,blk:-b|blk,inc:-i|inc,resume:-r,uri:s",
        .params     = "[-d] [-b] [-i] [-r] uri",
        .help       = "move the machine to another host (-d: in the background)\n"
                      "\t\t\t -b or blk: also copy its disks\n"
                      "\t\t\t -i or inc: also copy its disks, but not their backing images\n"
                      "\t\t\t -r: resume a paused migration\n"
                      "\t\t\t -n: only try whether and how fast it would move",
        .cmd        = hmp_migrate,
        .ours_with  = "x-qmon-migrate-disks",
        .forms      = "uri is the destination's address:\n"
                      "  tcp:HOST:PORT  as in tcp:192.0.2.10:4444 or tcp:[2001:db8::1]:4444\n"
                      "  unix:PATH      a Unix socket: a qmon on this host, or forwarded by ssh\n"
                      "  exec:COMMAND   standard input and output of a command, run by /bin/sh\n"
                      "  fd:NAME        a descriptor of getfd; fd:N is an inherited one\n"
                      "  file:PATH[,offset=N]  a file, from a byte on",
    },

SRST
``migrate`` [``-d``] [``-b``] [``-i``] [``-r``] [``-n``] *uri*
  Move the machine to the host at *uri*: ``tcp:``\ *host*:*port*, ``unix:``\ *path*, ``exec:``\ *command*,
  ``fd:``\ *name* or ``file:``\ *path*\ [``,offset=``\ *n*]. ``migrate``
  waits for the end and shows the progress. At a terminal, Ctrl-C returns to the prompt and the
  migration continues. ``-d`` starts the migration and returns to the prompt. If guests write as fast
  as the disks are sent, a line says so, and which parameter would help. At the end lines say what was
  moved, how it was verified, and which NBD clients were disconnected.

  ``-b``, or the word ``blk``, also copies the disks; the hosts need no shared storage. ``-i``, or
  the word ``inc``, is an incremental copy: only the data above the backing images are copied. The
  destination then needs an empty overlay on the same backing image, and refuses anything else
  before data is sent. A disk without a backing image is copied in full. Read-only drives are
  compared with the destination's, and copied only if its image holds no data. Without ``-b`` and
  ``-i`` both hosts must use the same disks on shared storage; other disks are refused. ``rdma:`` is not
  supported.

  ``exec:`` runs the command by ``/bin/sh -c``, without a terminal; its standard input and output are the other
  side. If it leads to a waiting qmon, as ``ssh root@there socat - unix:/run/in`` does, the migration is like any
  other. If it does not answer, the migration goes one way: nobody can confirm it, so this machine stays paused
  with its disks, and ``cont`` continues here with a warning. So a migration into a command or a file is a
  backup, and ``-incoming`` with the same data is its restore. Everything is verified before that machine runs.
  At a terminal a question comes before an existing file is overwritten; scripts and QMP overwrite it, as QEMU
  does. A disk image in use is refused. A command with spaces needs double quotes:
  ``migrate blk "exec:gzip > disk.qmon"``.
  A qmon does not wait for answers longer than 5 seconds, unless the capability ``return-path`` is on.
  ``fd:`` serves one connection; a pipe or a file goes one way. ``file:`` cuts the file off at *n*, as
  QEMU does, and flushes it at the end. TLS is for ``tcp:``, ``unix:`` and sockets of ``fd:``.

  Internal snapshots of qcow2 images are not copied, dirty bitmaps only with the capability ``dirty-bitmaps``.
  The number of those that are not copied is printed at the beginning and the end, and by ``info migrate``.

  ``-r`` continues a paused migration, at the same *uri* or another one (the capability
  ``x-qmon-recover``). Only what the destination lacks is sent. If it can't continue, it stays paused,
  and a line says why. A source that is in doubt (``migrate_resolve``) asks at *uri* from then on.

  ``-n`` is a trial: nothing is moved. The destination checks all that it checks for a migration, and
  everything that does not match is listed. Then the rates of the line and of the guests' writes are
  measured for 3 seconds. The answer says how much would be sent, how long it would take, and whether
  it would end.

  On the console of a QEMU (``-connect``) ``-b``, ``-i`` or ``-n`` move its guest, memory and disks, to another
  QEMU. That one was started with ``-incoming defer``, and its console with ``-incoming`` and the address.
  The trial measures no rates there. QEMU's own ``-b`` and ``-i`` are not used: QEMU 9.1 has dropped them,
  and those of QEMU 7.2 can lose what the guest writes. A line without them is QEMU's own ``migrate``: no
  disk is copied, and QEMU does not check that the destination uses the same ones. If the guest has a disk,
  the console asks first; a script gets a warning.

  ::

    (qemu) migrate blk unix:there.sock
    (qemu) info status
    VM status: paused (postmigrate)
    (qemu) migrate blk unix:there.sock
    Error: ...
ERST

    {
        .name       = "migrate_cancel",
        .args_type  = "",
        .params     = "",
        .help       = "cancel the migration",
        .cmd        = hmp_migrate_cancel,
    },

SRST
``migrate_cancel``
  Cancel the migration that is under way. The source keeps running. The command is refused once the
  destination has been told to take over.

  The source of a paused migration also tells the destination, if it reaches it. At the destination
  of a paused migration the command gives up the images, which are partial.

  The guest of a QEMU runs on at the source. If its memory was being sent already, the destination's QEMU has
  ended or must be started again for the next attempt.

  ::

    (qemu) migrate_set_parameter max-bandwidth 64k
    (qemu) migrate -d blk unix:there.sock
    (qemu) migrate_cancel
    (qemu) info status
    VM status: running
ERST

    {
        .name       = "migrate_continue",
        .args_type  = "state:s",
        .params     = "state",
        .help       = "continue a migration that has paused before the switchover",
        .cmd        = hmp_migrate_continue,
    },

SRST
``migrate_continue`` *state*
  Continue a migration that the capability ``pause-before-switchover`` has paused. *state* is the
  state that the migration must be in: ``pre-switchover``. In another state the command is refused,
  and the message names that state.

  ::

    (qemu) migrate_continue pre-switchover
    Error: Migration not in expected state: none
ERST

    {
        .name       = "migrate_incoming",
        .args_type  = "uri:s",
        .params     = "uri",
        .help       = "listen for a migration, after a start with -incoming defer",
        .cmd        = hmp_migrate_incoming,
        .forms      = "uri is the address to listen at:\n"
                      "  tcp:0:PORT     on all addresses of this host, as in tcp:0:4444\n"
                      "  tcp:HOST:PORT  on one of them\n"
                      "  unix:PATH      on a Unix socket\n"
                      "or what to read it from:\n"
                      "  exec:COMMAND   a command's output, as in \"exec:gunzip < disk.qmon\"\n"
                      "  fd:NAME        a descriptor of getfd; fd:N is an inherited one\n"
                      "  file:PATH[,offset=N]  a file, from a byte on",
    },

SRST
``migrate_incoming`` *uri*
  Listen at *uri* for a migration. qmon must have been started with ``-incoming defer``. After an
  incoming migration has failed, the command can be given again.

  With ``exec:``, ``fd:`` or ``file:`` a migration is read at once from a command, a descriptor or a file; a
  command can also lead to a source. A stored migration runs only after all of it has been verified. One that is
  cut off, changed or something else is refused, and the images here may then be partial.

  On the console of a QEMU the line is QEMU's own. If the console was started with ``-incoming defer``, it
  listens itself, for another console that moves a guest here with its disks.

  ::

    (qemu) migrate_incoming tcp:0:4444
    Error: '-incoming' was not specified on the command line
ERST

    {
        .name       = "migrate_recover",
        .args_type  = "uri:s",
        .params     = "uri",
        .help       = "listen again for a paused incoming migration",
        .cmd        = hmp_migrate_recover,
    },

SRST
``migrate_recover`` *uri*
  Listen at *uri* for the source of a paused migration (the capability ``x-qmon-recover``), instead of the
  address before. The source then continues it with ``migrate -r``. The destination goes on listening at
  its old address without this command.

  ::

    (qemu) migrate_recover tcp:127.0.0.1:4444
    Error: Migrate recover can only be run when postcopy is paused.
ERST

    {
        .name       = "migrate_pause",
        .args_type  = "",
        .params     = "",
        .help       = "pause the migration",
        .cmd        = hmp_migrate_pause,
    },

SRST
``migrate_pause``
  Close the line of a migration. Both sides keep what they have and show ``postcopy-paused``; guests run on at
  the source. ``migrate -r`` at the source continues it, ``migrate_cancel`` ends it. The command works on
  either side, also to end a line that is broken and that this side still waits for. It needs the
  capability ``x-qmon-recover`` on both sides.

  ::

    (qemu) migrate_pause
    Error: migrate-pause is currently only supported during postcopy-active state
ERST

    {
        .name       = "migrate_set_capability",
        .args_type  = "capability:s,state:b",
        .params     = "capability state",
        .help       = "turn a migration capability on or off",
        .cmd        = hmp_migrate_set_capability,
        .command_completion = migrate_set_capability_completion,
    },

SRST
``migrate_set_capability`` *capability* ``on``\ \|\ ``off``
  Turn one capability on or off for later migrations. The command is refused while a migration is
  under way, and for a combination of capabilities that can't work.

  ``block`` copies the disks, as ``migrate -b`` does; if the parameter ``block-incremental`` is on
  too, as ``migrate -i`` does. ``events`` sends a MIGRATION event to QMP clients at each change of
  state. ``pause-before-switchover`` pauses the migration at the switchover until
  ``migrate_continue``. ``validate-uuid`` makes the destination refuse a machine with a different
  UUID. Unlike in QEMU, a destination that was started without ``-uuid`` refuses too.

  ``auto-converge`` slows guests that write faster than their disks are sent: see ``migrate_set_parameter``.

  ``x-qmon-forward`` is on from the start, and works if it is on at both sides. At the end of a
  migration the source then keeps its NBD clients, and sends their requests to the destination. It
  is listed only while it is off.

  ``multifd`` sends the data of disks on ``multifd-channels`` further connections, compressed by the method of
  ``multifd-compression``. It must be on at both sides, and needs ``tcp:`` or ``unix:``.

  ``x-qmon-recover`` pauses a migration whose line breaks, if it is on at both sides: ``migrate_recover``
  and ``migrate -r`` continue it.

  ``dirty-bitmaps`` takes the dirty bitmaps of the disks along. If there are any, it must be on at the
  destination, too.

  Some capabilities promise what qmon can't do. While ``x-colo``, ``background-snapshot``
  or QEMU 10's ``mapped-ram`` is on, outgoing migrations are refused. While
  ``late-block-activate`` or ``mapped-ram`` is on, incoming migrations are refused. QEMU 10's
  ``dirty-limit`` can't be turned on.

  Capabilities about guest RAM and CPUs are stored and have no effect: ``xbzrle``, ``rdma-pin-all``,
  ``compress``, ``postcopy-ram``, ``release-ram``, ``postcopy-blocktime``, ``x-ignore-shared``,
  ``zero-copy-send``, ``postcopy-preempt``.
  ``zero-blocks`` and QEMU 10's ``switchover-ack`` have no effect either, because qmon always does what
  they ask for. ``return-path`` makes a migration over ``exec:`` or ``fd:`` wait for the destination's answers;
  over others it always does.

  ::

    (qemu) migrate_set_capability events on
    (qemu) migrate_set_capability multifd on
    (qemu) migrate_set_capability compress on
    Error: Multifd is not compatible with compress
ERST

    {
        .name       = "migrate_set_parameter",
        .args_type  = "parameter:s,value:s",
        .params     = "parameter value",
        .help       = "set a migration parameter",
        .cmd        = hmp_migrate_set_parameter,
        .command_completion = migrate_set_parameter_completion,
    },

SRST
``migrate_set_parameter`` *parameter* *value*
  Set one migration parameter. This works while a migration is under way, too. ``max-bandwidth`` is
  the most data to send per second, in MiB without a suffix. ``downtime-limit`` is in milliseconds.
  ``block-incremental`` is for the capability ``block``. ``x-qmon-verify-backing``, which is qmon's
  own, sets how the two hosts compare data that is not copied (read-only drives, and the backing
  images of incremental copies): by samples (``sample``), completely (``full``) or by size only
  (``off``). With ``x-qmon-copy-mode`` ``write-blocking`` each write of a guest waits until both sides have it, so
  that a migration ends however fast guests write; ``background`` is the default.

  On a console that is connected to a QEMU, ``max-bandwidth`` and ``downtime-limit`` are for its disks and
  memory together. ``x-qmon-verify-copy`` sets how ``migrate blk`` compares the disks of both QEMUs: 64 blocks
  of each disk while the guest stands still (``sample``), everything that no longer changes (``full``), or
  nothing (``off``). For an incremental copy it sets the same for the backing images. ``x-qmon-copy-mode`` may
  be ``auto`` there, which is the default: write-blocking only when a copy in the background does not end.

  ``tls-creds`` is the id of an object ``tls-creds-x509`` or ``tls-creds-psk``: migrations go over TLS. Set it on
  both sides, with ``endpoint=server`` at the destination, before ``migrate_incoming``. The source compares the
  destination's certificate with the host in the URI, or with ``tls-hostname``. ``tls-authz`` is the id of an
  object ``authz-*`` that says whose certificates the destination accepts. ``block-bitmap-mapping`` can be set by
  QMP only.

  With the capability ``auto-converge`` guests' writes are held back: by ``cpu-throttle-initial`` per cent at
  first, by ``cpu-throttle-increment`` more at each step, by ``max-cpu-throttle`` at most. A step is due when
  guests write more than ``throttle-trigger-threshold`` per cent of what is copied in the same time. With
  ``cpu-throttle-tailslow`` steps are smaller when little is missing.

  With the capability ``multifd``, ``multifd-channels`` is the number of further connections, and
  ``multifd-compression`` how their data is packed: ``none``, ``zlib`` or ``zstd``, with
  ``multifd-zlib-level`` and ``multifd-zstd-level``. ``multifd-qatzip-level`` has no effect.

  Parameters about guest RAM, COLO and network cards are stored and have no effect: all that begin with
  ``announce``, ``compress``, ``decompress`` and ``xbzrle``, and ``max-postcopy-bandwidth``,
  ``x-checkpoint-delay``.

  QEMU 10's parameters are accepted too, and listed once they are set.
  ``avail-switchover-bandwidth`` is the rate assumed for the switchover. ``mode`` must be
  ``normal``, or migrations are refused. ``direct-io``, ``zero-page-detection``,
  ``vcpu-dirty-limit`` and ``x-vcpu-dirty-limit-period`` have no effect.

  ::

    (qemu) migrate_set_parameter max-bandwidth 1G
    (qemu) migrate_set_parameter downtime-limit 50
    (qemu) migrate_set_parameter downtime-limit 3000000
    Error: Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms
ERST

    {
        .name       = "migrate_start_postcopy",
        .args_type  = "",
        .params     = "",
        .help       = "switch over before the guest's RAM has arrived",
        .cmd        = hmp_migrate_start_postcopy,
        .needs      = "guest",
    },

SRST
``migrate_start_postcopy``
  Switch over now and copy guest RAM afterwards. This machine has no RAM, and its disks are always
  complete before the destination runs, so the command is refused while a migration is under way.

  ::

    (qemu) migrate_start_postcopy
    Error: Enable postcopy with migrate_set_capability before the start of migration
ERST

    {
        .name       = "migrate_report",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "write a page about the migration, with plots",
        .cmd        = hmp_migrate_report,
    },

SRST
``migrate_report`` *filename*
  Write a page about the current or last migration, for a browser: plots of the rate, of what is left
  and of how long guests waited, what was verified, the figures and the settings. It is one HTML file
  that needs nothing else. Each side has its own record. A file of this name is replaced only if it is
  such a report. QEMU has no such command.

  ::

    (qemu) migrate blk unix:there.sock
    (qemu) migrate_report moved.html
ERST

    {
        .name       = "migrate_resolve",
        .args_type  = "action:s",
        .params     = "keep|release",
        .help       = "decide which host keeps the disks of a handover in doubt",
        .cmd        = hmp_migrate_resolve,
        .ours_with  = "x-qmon-migrate-disks",
        .command_completion = migrate_resolve_completion,
    },

SRST
``migrate_resolve`` ``keep``\ \|\ ``release``
  Decide which host keeps the disks when the connection was lost during the handover. This host then
  does not know whether the other runs. ``keep``: the disks belong to this host, and the machine may
  run here. ``release``: the disks belong to the other host, and this one does not use them.

  First check whether the machine runs on the other host. Then give the opposite answer there.
  ``keep`` on both hosts makes two machines with the same disks; on shared storage that destroys
  them. QEMU has no such command; on a console that moves a QEMU's guest, it says which host runs the guest.

  ::

    (qemu) migrate blk unix:there.sock
    (qemu) cont
    Error: A migration has moved the disks: ...
    (qemu) migrate_resolve release
    Error: There is nothing to resolve: the migration is completed
ERST

    {
        .name       = "migrate_set_speed",
        .args_type  = "value:o",
        .params     = "value",
        .help       = "limit a migration's speed, in MiB per second",
        .cmd        = hmp_migrate_set_speed,
        .side       = "console",
    },

SRST
``migrate_set_speed`` *value*
  Set ``max-bandwidth`` to *value*, in MiB per second unless a suffix says otherwise. This is the
  older form of ``migrate_set_parameter max-bandwidth``.

  ::

    (qemu) migrate_set_speed 100M
    (qemu) info migrate_parameters
    ...
    max-bandwidth: 104857600 bytes/second
    ...
ERST

    {
        .name       = "migrate_set_downtime",
        .args_type  = "value:T",
        .params     = "value",
        .help       = "limit a migration's downtime, in seconds",
        .cmd        = hmp_migrate_set_downtime,
        .side       = "console",
    },

SRST
``migrate_set_downtime`` *value*
  Set ``downtime-limit`` to *value*, in seconds, or in the unit ``ms``, ``us`` or ``ns`` that
  follows the number. This is the older form of ``migrate_set_parameter downtime-limit``.

  ::

    (qemu) migrate_set_downtime 0.05
    (qemu) info migrate_parameters
    ...
    downtime-limit: 50 ms
    ...
ERST

    {
        .name       = "x_colo_lost_heartbeat",
        .args_type  = "",
        .params     = "",
        .help       = "take over from a COLO partner that stopped answering",
        .cmd        = hmp_x_colo_lost_heartbeat,
    },

SRST
``x_colo_lost_heartbeat``
  Take over from a COLO partner that stopped answering. qmon has no COLO, so the command is always
  refused.

  ::

    (qemu) x_colo_lost_heartbeat
    Error: The feature 'colo' is not enabled
ERST

    {
        .name       = "calc_dirty_rate",
        .args_type  = "dirty_ring:-r,dirty_bitmap:-b,second:l,sample_pages_per_GB:l?",
        .params     = "[-r] [-b] second [sample_pages_per_GB]",
        .help       = "measure how fast the guest writes to memory",
        .cmd        = hmp_calc_dirty_rate,
    },

SRST
``calc_dirty_rate`` [``-r``] [``-b``] *second* [*sample_pages_per_GB*]
  Measure for *second* seconds how fast the guest writes to its memory. ``info dirty_rate`` shows
  the result. The embedded machine has no memory.

  ::

    (qemu) calc_dirty_rate 1
    Error: this machine has no memory
ERST

    {
        .name       = "set_vcpu_dirty_limit",
        .args_type  = "dirty_rate:l,cpu_index:l?",
        .params     = "dirty_rate [cpu_index]",
        .help       = "limit how fast a virtual CPU writes to memory",
        .cmd        = hmp_set_vcpu_dirty_limit,
    },

SRST
``set_vcpu_dirty_limit`` *dirty_rate* [*cpu_index*]
  Limit one virtual CPU, or all of them, to *dirty_rate* MB per second. The command needs KVM, so it
  is always refused.

  ::

    (qemu) set_vcpu_dirty_limit 100
    Error: dirty page limit feature requires KVM ...
ERST

    {
        .name       = "cancel_vcpu_dirty_limit",
        .args_type  = "cpu_index:l?",
        .params     = "[cpu_index]",
        .help       = "remove the limit set by set_vcpu_dirty_limit",
        .cmd        = hmp_cancel_vcpu_dirty_limit,
    },

SRST
``cancel_vcpu_dirty_limit`` [*cpu_index*]
  Remove the limit of one virtual CPU, or of all of them. The embedded machine has no such limit,
  which is not an error.

  ::

    (qemu) cancel_vcpu_dirty_limit
    [Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]
ERST

    {
        .name       = "client_migrate_info",
        .args_type  = "protocol:s,hostname:s,port:i?,tls-port:i?,cert-subject:s?",
        .params     = "protocol hostname port tls-port cert-subject",
        .help       = "tell SPICE clients where to reconnect after a migration",
        .cmd        = hmp_client_migrate_info,
    },

SRST
``client_migrate_info`` *protocol* *hostname* [*port* [*tls-port* [*cert-subject*]]]
  Tell the clients of a remote screen to reconnect to *hostname* after a migration. Only SPICE
  supports this, and the embedded machine has no screen, so the command is always refused.

  ::

    (qemu) client_migrate_info spice host2 5900
    Error: SPICE is not in use
ERST

#if defined(TARGET_S390X)
    {
        .name       = "migration_mode",
        .args_type  = "mode:i",
        .params     = "mode",
        .help       = "turn tracking of s390 storage attributes on or off",
        .cmd        = hmp_migrationmode,
    },
#endif

SRST
``migration_mode`` *mode*
  Turn the tracking of storage attributes on (1) or off (0). Only IBM Z machines have it; the
  embedded machine refuses the command.

  ::

    (qemu) migration_mode 1
    migration_mode: this machine has no storage attributes device
ERST

    {
        .name       = "announce_self",
        .args_type  = "interfaces:s?,id:s?",
        .params     = "[interfaces] [id]",
        .help       = "announce the network cards on the network",
        .cmd        = hmp_announce_self,
    },

SRST
``announce_self`` [*interfaces* [*id*]]
  Send announcements from all network cards, or from those in the comma-separated list *interfaces*.
  The parameters that begin with ``announce`` set how often. *id* names the announcement. The
  embedded machine has no network card, so nothing is sent.

  ::

    (qemu) announce_self
ERST

DEFHEADING(Objects)

    {
        .name       = "object_add",
        .args_type  = "object:S",
        .params     = "[qom-type=]type,id=str[,prop=value][,...]",
        .help       = "add an object",
        .cmd        = hmp_object_add,
        .command_completion = object_add_completion,
        .flags      = "p",
    },

SRST
``object_add`` [``qom-type=``]\ *type*\ ``,id=``\ *id*\ [``,``\ *property*\ ``=``\ *value*]...
  Add the object *id* of the type *type*. In a value, write a comma twice. Write a property of a
  property with a dot, and a member of a list with its number: ``limits.iops-total=500``,
  ``rules.0.match=fred``. The argument can also be JSON. ``object_add help`` lists the types,
  ``object_add`` *type*\ ``,help`` the properties of one.

  A ``secret`` holds a password or a key. ``tls-creds-*`` names the folder of certificates or keys.
  ``authz-*`` says who may connect. A ``throttle-group`` holds limits. An ``iothread`` is only a
  name: qmon serves drives with threads of its own. QEMU's other types are refused, and so are
  encrypted secrets (``keyid``, ``iv``). ``authz-list-file`` is accepted here; QEMU's monitor
  refuses it.

  ::

    (qemu) object_add secret,id=key0,data=letmein
    (qemu) object_add throttle-group,id=slow,limits.iops-total=500
    (qemu) object_add iothread
    Error: Parameter 'id' is missing
    (qemu) object_add iothread,help
    iothread options:
      aio-max-batch=<int>
    ...
ERST

    {
        .name       = "object_del",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "remove an object",
        .cmd        = hmp_object_del,
        .command_completion = object_del_completion,
        .flags      = "p",
    },

SRST
``object_del`` *id*
  Remove an object that ``object_add`` or ``-object`` added. The command is refused while the object
  is still being made.

  ::

    (qemu) object_add iothread,id=io0
    (qemu) object_del io0
    (qemu) object_del io0
    Error: object 'io0' not found
ERST

    {
        .name       = "qom-list",
        .args_type  = "path:s?",
        .params     = "path",
        .help       = "list an object's properties and children",
        .cmd        = hmp_qom_list,
        .flags      = "p",
    },

SRST
``qom-list`` [*path*]
  List the properties and the children of an object in QEMU's object tree. The embedded machine has
  no object tree.

  ::

    (qemu) qom-list /
    Error: this machine has no object tree
ERST

    {
        .name       = "qom-get",
        .args_type  = "path:s,property:s",
        .params     = "path property",
        .help       = "show an object's property",
        .cmd        = hmp_qom_get,
        .flags      = "p",
    },

SRST
``qom-get`` *path* *property*
  Show a property of an object in QEMU's object tree. The embedded machine has no object tree.

  ::

    (qemu) qom-get /machine type
    Error: this machine has no object tree
ERST

    {
        .name       = "qom-set",
        .args_type  = "json:-j,path:s,property:s,value:S",
        .params     = "[-j] path property value",
        .help       = "set an object's property",
        .cmd        = hmp_qom_set,
        .flags      = "p",
    },

SRST
``qom-set`` [``-j``] *path* *property* *value*
  Set a property of an object in QEMU's object tree. With ``-j``, *value* is JSON. The embedded
  machine has no object tree.

  ::

    (qemu) qom-set /machine usb on
    Error: this machine has no object tree
ERST

DEFHEADING(Character devices)

    {
        .name       = "chardev-add",
        .args_type  = "args:s",
        .params     = "args",
        .help       = "add a character device",
        .cmd        = hmp_chardev_add,
        .command_completion = chardev_add_completion,
    },

SRST
``chardev-add`` *args*
  Add a character device. *args* has the form of ``-chardev``: the kind, ``id=``\ *ID* and the
  kind's options. The kinds are ``null``, ``file`` (``path``, ``append``), ``pipe`` (``path``),
  ``pty``, ``stdio``, ``ringbuf`` (``size``), ``udp`` (``host``, ``port``, ``localaddr``,
  ``localport``) and ``socket`` (``path`` or ``host`` and ``port``, ``server``, ``wait``,
  ``telnet``, ``reconnect``). All kinds take ``logfile`` and ``logappend``. ``chardev-add help``
  lists the kinds. A server socket with ``wait=on`` keeps this monitor waiting for its first client;
  in QEMU the whole machine waits.

  ::

    (qemu) chardev-add ringbuf,id=ring,size=4k
    (qemu) chardev-add socket,id=line,path=line.sock,server=on,wait=off
    (qemu) info chardev
    ...
    (qemu) chardev-add ringbuf,id=odd,size=1000
    Error: size of ringbuf chardev must be power of two
ERST

    {
        .name       = "chardev-change",
        .args_type  = "id:s,args:s",
        .params     = "id args",
        .help       = "replace a character device",
        .cmd        = hmp_chardev_change,
    },

SRST
``chardev-change`` *id* *args*
  Replace the character device *id* by a new one. *args* describes the new one as for
  ``chardev-add``, but without ``id``. A device that a monitor uses can't be replaced. If the new
  device can't be opened, the old one stays.

  ::

    (qemu) chardev-add null,id=line
    (qemu) chardev-change line file,path=line.txt
    (qemu) info chardev
    ...
    (qemu) chardev-change other null
    Error: Chardev 'other' does not exist
ERST

    {
        .name       = "chardev-remove",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "remove a character device",
        .cmd        = hmp_chardev_remove,
        .command_completion = chardev_remove_completion,
    },

SRST
``chardev-remove`` *id*
  Close and remove the character device *id*. A device that a monitor uses is refused.

  ::

    (qemu) chardev-add null,id=line
    (qemu) chardev-remove line
    (qemu) chardev-remove line
    Error: Chardev 'line' not found
ERST

    {
        .name       = "chardev-send-break",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "send a break on a character device",
        .cmd        = hmp_chardev_send_break,
        .command_completion = chardev_remove_completion,
    },

SRST
``chardev-send-break`` *id*
  Send a break on the character device *id*. None of the kinds here has a line that carries a break,
  so the command has no effect.

  ::

    (qemu) chardev-send-break line
    Error: Chardev 'line' not found
ERST

    {
        .name       = "ringbuf_write",
        .args_type  = "device:s,data:s",
        .params     = "device data",
        .help       = "write text to a ring buffer",
        .cmd        = hmp_ringbuf_write,
        .command_completion = ringbuf_write_completion,
    },

SRST
``ringbuf_write`` *device* *data*
  Write *data* to the ring buffer *device*. If the buffer is full, the oldest bytes are dropped.

  ::

    (qemu) chardev-add ringbuf,id=ring,size=4
    (qemu) ringbuf_write ring abcdef
    (qemu) ringbuf_read ring 10
    cdef
ERST

    {
        .name       = "ringbuf_read",
        .args_type  = "device:s,size:i",
        .params     = "device size",
        .help       = "read and remove text from a ring buffer",
        .cmd        = hmp_ringbuf_read,
        .command_completion = ringbuf_write_completion,
    },

SRST
``ringbuf_read`` *device* *size*
  Read at most *size* bytes from the ring buffer *device*, oldest first, print them and remove them.
  Control characters other than tab and newline are printed as codes. A backslash is printed twice.

  ::

    (qemu) chardev-add ringbuf,id=ring
    (qemu) ringbuf_write ring "a\\b"
    (qemu) ringbuf_read ring 10
    a\\b
    (qemu) ringbuf_read ring 0
    Error: size must be greater than zero
ERST

DEFHEADING(CPU and memory)

    {
        .name       = "cpu",
        .args_type  = "index:i",
        .params     = "index",
        .help       = "select the CPU for later commands",
        .cmd        = hmp_cpu,
    },

SRST
``cpu`` *index*
  Select the CPU that later commands act on by default. The embedded machine has no CPU::

    (qemu) cpu 0
    invalid CPU index
ERST

    {
        .name       = "x",
        .args_type  = "fmt:/,addr:l",
        .params     = "/fmt addr",
        .help       = "show memory at a virtual address",
        .cmd        = hmp_memory_dump,
    },

SRST
``x/``\ *fmt* *addr*
  Show guest memory from the virtual address *addr* on. *fmt* is a count, a format (``x d u o c``,
  or ``i`` for instructions) and a size (``b h w g`` for 1, 2, 4 and 8 bytes). Each is optional; a
  format and a size hold for later lines too. A CPU translates virtual addresses, and the embedded
  machine has no CPU::

    (qemu) x/4xb 0x1000
    Can not dump without CPU
ERST

    {
        .name       = "xp",
        .args_type  = "fmt:/,addr:l",
        .params     = "/fmt addr",
        .help       = "show memory at a physical address",
        .cmd        = hmp_physical_memory_dump,
    },

SRST
``xp/``\ *fmt* *addr*
  Show guest memory from the physical address *addr* on, in the formats of ``x``. The embedded
  machine has no memory.

  ::

    (qemu) xp/4xb 0x1000
    this machine has no memory
ERST

    {
        .name       = "gpa2hva",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "translate a guest-physical address to a host virtual address",
        .cmd        = hmp_gpa2hva,
    },

SRST
``gpa2hva`` *addr*
  Show the address in QEMU's process of the guest-physical address *addr*. The embedded machine has
  no memory.

  ::

    (qemu) gpa2hva 0x1000
    this machine has no memory
ERST

    {
        .name       = "gpa2hpa",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "translate a guest-physical address to a host physical address",
        .cmd        = hmp_gpa2hpa,
    },

SRST
``gpa2hpa`` *addr*
  Show the address in the host's physical memory of the guest-physical address *addr*. The embedded
  machine has no memory.

  ::

    (qemu) gpa2hpa 0x1000
    this machine has no memory
ERST

    {
        .name       = "gva2gpa",
        .args_type  = "addr:l",
        .params     = "addr",
        .help       = "translate a guest-virtual address to a guest-physical address",
        .cmd        = hmp_gva2gpa,
    },

SRST
``gva2gpa`` *addr*
  Translate the virtual address *addr* to a physical one, as the CPU does. The embedded machine has
  no CPU::

    (qemu) gva2gpa 0x1000
    No cpu
ERST

    {
        .name       = "i",
        .args_type  = "fmt:/,addr:i,index:i.",
        .params     = "/fmt addr",
        .help       = "read an I/O port",
        .cmd        = hmp_ioport_read,
    },

SRST
``i/``\ *fmt* *addr*\ [``.``\ *index*]
  Read the I/O port *addr*. With *index*, first write *index* to that port, then read the next port.
  The size in *fmt* is the size of the port. The embedded machine has no I/O ports.

  ::

    (qemu) i/b 0x60
    this machine has no I/O ports
ERST

    {
        .name       = "o",
        .args_type  = "fmt:/,addr:i,val:i",
        .params     = "/fmt addr value",
        .help       = "write to an I/O port",
        .cmd        = hmp_ioport_write,
    },

SRST
``o/``\ *fmt* *addr* *value*
  Write *value* to the I/O port *addr*. The embedded machine has no I/O ports.

  ::

    (qemu) o/b 0x80 1
    this machine has no I/O ports
ERST

    {
        .name       = "memsave",
        .args_type  = "val:l,size:i,filename:s",
        .params     = "addr size file",
        .help       = "write memory at a virtual address to a file",
        .cmd        = hmp_memsave,
    },

SRST
``memsave`` *addr* *size* *file*
  Write *size* bytes of memory from the virtual address *addr* on to *file*. A CPU translates
  virtual addresses, and the embedded machine has no CPU::

    (qemu) memsave 0 4096 "memory.bin"
    No CPU available
ERST

    {
        .name       = "pmemsave",
        .args_type  = "val:l,size:i,filename:s",
        .params     = "addr size file",
        .help       = "write memory at a physical address to a file",
        .cmd        = hmp_pmemsave,
    },

SRST
``pmemsave`` *addr* *size* *file*
  Write *size* bytes of memory from the physical address *addr* on to *file*. The embedded machine
  has no memory.

  ::

    (qemu) pmemsave 0 4096 "memory.bin"
    Error: this machine has no memory
ERST

    {
        .name       = "dump-guest-memory",
        .args_type  = "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,filename:F,begin:l?,length:l?",
        .params     = "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
        .help       = "write the guest's memory to a file for a debugger",
        .cmd        = hmp_dump_guest_memory,
    },

SRST
``dump-guest-memory`` [``-p``] [``-d``] [``-z``\|\ ``-l``\|\ ``-s``\|\ ``-w``] *filename* [*begin* *length*]
  Write guest memory to *filename*: as an ELF core, compressed by zlib (``-z``), lzo (``-l``) or
  snappy (``-s``), or in the format of Windows' debugger (``-w``). The embedded machine has no
  memory. No file is made; QEMU leaves an empty one.

  ::

    (qemu) dump-guest-memory core
    Error: dump: no guest memory to dump
ERST

#if defined(TARGET_S390X)
    {
        .name       = "dump-skeys",
        .args_type  = "filename:F",
        .params     = "",
        .help       = "save the storage keys of an S390 guest",
        .cmd        = hmp_dump_skeys,
    },
#endif

SRST
``dump-skeys`` *filename*
  Save the storage keys of an S390 guest to *filename*. The embedded machine is not an S390 machine.
ERST

    {
        .name       = "dumpdtb",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "write the device tree to a file",
        .cmd        = hmp_dumpdtb,
    },

SRST
``dumpdtb`` *filename*
  Write the machine's flattened device tree to *filename*. The embedded machine has no device tree::

    (qemu) dumpdtb tree.dtb
    Error: This machine doesn't have a FDT
ERST

    {
        .name       = "sum",
        .args_type  = "start:i,size:i",
        .params     = "addr size",
        .help       = "show the checksum of a range of memory",
        .cmd        = hmp_sum,
    },

SRST
``sum`` *addr* *size*
  Show the 16-bit sum of *size* bytes of physical memory from *addr* on. The embedded machine has no
  memory.

  ::

    (qemu) sum 0 4096
    this machine has no memory
ERST

    {
        .name       = "mce",
        .args_type  = "broadcast:-b,cpu_index:i,bank:i,status:l,mcg_status:l,addr:l,misc:l",
        .params     = "[-b] cpu bank status mcgstatus addr misc",
        .help       = "inject a machine-check error into a CPU",
        .cmd        = hmp_mce,
    },

SRST
``mce`` [``-b``] *cpu* *bank* *status* *mcgstatus* *addr* *misc*
  Inject a machine-check error into a CPU. The embedded machine has no CPU.

  ::

    (qemu) mce 0 0 0 0 0 0
    this machine has no CPU
ERST

    {
        .name       = "balloon",
        .args_type  = "value:M",
        .params     = "target",
        .help       = "set how much memory the guest may use",
        .cmd        = hmp_balloon,
    },

SRST
``balloon`` *target*
  Ask the guest to return memory until it uses *target* MiB. The embedded machine has no balloon
  device::

    (qemu) balloon 512
    Error: No balloon device has been activated
ERST

    {
        .name       = "singlestep",
        .args_type  = "option:s?",
        .params     = "[on|off]",
        .help       = "turn single-instruction translation on or off",
        .cmd        = hmp_singlestep,
    },

SRST
``singlestep`` [``on``\|\ ``off``]
  Make the CPU translate one instruction at a time, or with ``off`` stop doing so. The embedded
  machine has no CPU.

  ::

    (qemu) singlestep
    this machine has no CPU
ERST

    {
        .name       = "one-insn-per-tb",
        .args_type  = "option:s?",
        .params     = "[on|off]",
        .help       = "turn single-instruction translation on or off",
        .cmd        = hmp_one_insn_per_tb,
    },

SRST
``one-insn-per-tb`` [``on``\|\ ``off``]
  Make the CPU translate one instruction at a time, or with ``off`` stop doing so. The embedded
  machine has no CPU.

  ::

    (qemu) one-insn-per-tb
    this machine has no CPU
ERST

    {
        .name       = "gdbserver",
        .args_type  = "device:s?",
        .params     = "[device]",
        .help       = "wait for a gdb connection",
        .cmd        = hmp_gdbserver,
    },

SRST
``gdbserver`` [*device*]
  Wait for gdb on *device*, by default ``tcp::1234``. The embedded machine has no CPU.

  ::

    (qemu) gdbserver
    gdbstub: meaningless to attach gdb to a machine without any CPU.
ERST

    {
        .name       = "replay_break",
        .args_type  = "icount:l",
        .params     = "icount",
        .help       = "set a breakpoint in a replay",
        .cmd        = hmp_replay_break,
    },

SRST
``replay_break`` *icount*
  Stop a replay after *icount* instructions. The embedded machine has no replay::

    (qemu) replay_break 1000
    setting the breakpoint is allowed only in play mode
ERST

    {
        .name       = "replay_delete_break",
        .args_type  = "",
        .params     = "",
        .help       = "remove the breakpoint of a replay",
        .cmd        = hmp_replay_delete_break,
    },

SRST
``replay_delete_break``
  Remove the breakpoint that ``replay_break`` has set. The embedded machine has no replay::

    (qemu) replay_delete_break
    replay breakpoints are allowed only in play mode
ERST

    {
        .name       = "replay_seek",
        .args_type  = "icount:l",
        .params     = "icount",
        .help       = "go to an instruction of a replay",
        .cmd        = hmp_replay_seek,
    },

SRST
``replay_seek`` *icount*
  Go to the point of a replay after *icount* instructions. The embedded machine has no replay::

    (qemu) replay_seek 1000
    replay must be enabled to seek
ERST

DEFHEADING(Devices)

    {
        .name       = "device_add",
        .args_type  = "device:O",
        .params     = "driver[,prop=value][,...]",
        .help       = "plug in a device",
        .cmd        = hmp_device_add,
        .command_completion = device_add_completion,
    },

SRST
``device_add`` *driver*\ [``,``\ *prop*\ ``=``\ *value*]...
  Plug a device of the model *driver* into the machine. The embedded machine has no device bus. To
  let a guest use a drive, export the drive (see ``nbd_server_add``).

  ::

    (qemu) device_add virtio-blk-pci,drive=d0
    Error: this machine has no device bus
ERST

    {
        .name       = "device_del",
        .args_type  = "id:s",
        .params     = "device",
        .help       = "unplug a device",
        .cmd        = hmp_device_del,
        .command_completion = device_del_completion,
    },

SRST
``device_del`` *device*
  Unplug the device *device*, once the guest has released it. The embedded machine has no devices::

    (qemu) device_del net0
    Error: Device 'net0' not found
ERST

    {
        .name       = "pcie_aer_inject_error",
        .args_type  = "advisory_non_fatal:-a,correctable:-c,id:s,error_status:s,header0:i?,header1:i?,header2:i?,header3:i?,prefix0:i?,prefix1:i?,prefix2:i?,prefix3:i?",
        .params     = "[-a] [-c] id <error_status> [<tlp header> [<tlp header prefix>]]",
        .help       = "make a PCIe device report an error",
        .cmd        = hmp_pcie_aer_inject_error,
    },

SRST
``pcie_aer_inject_error`` [``-a``] [``-c``] *id* *error_status* [*header*...] [*prefix*...]
  Make the PCIe device *id* report an error, given by name or number. ``-a`` reports it as advisory,
  ``-c`` as corrected. The embedded machine has no device bus::

    (qemu) pcie_aer_inject_error port0 0x4000
    id or pci device path is invalid or device not found. port0
ERST

    {
        .name       = "xen-event-inject",
        .args_type  = "port:i",
        .params     = "port",
        .help       = "signal an event channel of a Xen guest",
        .cmd        = hmp_xen_event_inject,
    },

SRST
``xen-event-inject`` *port*
  Signal the event channel *port* of a guest that QEMU runs in place of Xen. The embedded machine
  runs no guest::

    (qemu) xen-event-inject 1
    Error: Xen event channel emulation not enabled
ERST

    {
        .name       = "xen-event-list",
        .args_type  = "",
        .params     = "",
        .help       = "list the event channels of a Xen guest",
        .cmd        = hmp_xen_event_list,
    },

SRST
``xen-event-list``
  List the event channels of a guest that QEMU runs in place of Xen. The embedded machine runs no
  guest.
ERST

DEFHEADING(Networks)

    {
        .name       = "netdev_add",
        .args_type  = "netdev:O",
        .params     = "[user|tap|socket|stream|dgram|vde|bridge|hubport|netmap|vhost-user],id=str[,prop=value][,...]",
        .help       = "add a network backend",
        .cmd        = hmp_netdev_add,
        .command_completion = netdev_add_completion,
        .flags      = "p",
    },

SRST
``netdev_add`` *type*\ ``,id=``\ *id*\ [``,``\ *prop*\ ``=``\ *value*]...
  Add a network backend of the type *type*, for a network card to use. The embedded machine has no
  network.

  ::

    (qemu) netdev_add user,id=n0
    Error: this machine has no network
ERST

    {
        .name       = "netdev_del",
        .args_type  = "id:s",
        .params     = "id",
        .help       = "remove a network backend",
        .cmd        = hmp_netdev_del,
        .command_completion = netdev_del_completion,
        .flags      = "p",
    },

SRST
``netdev_del`` *id*
  Remove the network backend *id*. The embedded machine has no network.
ERST

    {
        .name       = "set_link",
        .args_type  = "name:s,up:b",
        .params     = "name on|off",
        .help       = "connect or disconnect a network card's link",
        .cmd        = hmp_set_link,
        .command_completion = set_link_completion,
    },

SRST
``set_link`` *name* ``on``\ \|\ ``off``
  Connect or disconnect the link of the network card or backend *name*. The embedded machine has no
  network::

    (qemu) set_link n0 off
    Error: Device 'n0' not found
ERST

    {
        .name       = "hostfwd_add",
        .args_type  = "arg1:s,arg2:s?",
        .params     = "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
        .help       = "forward a host port to the guest",
        .cmd        = hmp_hostfwd_add,
    },

SRST
``hostfwd_add`` [*netdev_id*] [``tcp``\ \|\ ``udp``]\ ``:``\ [*hostaddr*]\ ``:``\ *hostport*\ ``-``\ [*guestaddr*]\ ``:``\ *guestport*
  Forward connections to a host port to the guest, through the network backend *netdev_id* of the
  type ``user``. The embedded machine has no network and opens no port::

    (qemu) hostfwd_add tcp::2222-:22
    user mode network stack not in use
ERST

    {
        .name       = "hostfwd_remove",
        .args_type  = "arg1:s,arg2:s?",
        .params     = "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
        .help       = "stop forwarding a host port",
        .cmd        = hmp_hostfwd_remove,
    },

SRST
``hostfwd_remove`` [*netdev_id*] [``tcp``\ \|\ ``udp``]\ ``:``\ [*hostaddr*]\ ``:``\ *hostport*
  Stop forwarding the host port that ``hostfwd_add`` forwards. The embedded machine has no network.
ERST

DEFHEADING(Screens, keyboards and sound)

    {
        .name       = "screendump",
        .args_type  = "filename:F,format:-fs,device:s?,head:i?",
        .params     = "filename [-f format] [device [head]]",
        .help       = "save the screen as an image file",
        .cmd        = hmp_screendump,
    },

SRST
``screendump`` *filename* [``-f`` *format*] [*device* [*head*]]
  Save the picture of the screen *head* of *device* to *filename*, as ``ppm`` or ``png``. The
  embedded machine has no screen and writes no file::

    (qemu) screendump screen.ppm
    Error: There is no console to take a screendump from
ERST

    {
        .name       = "sendkey",
        .args_type  = "keys:s,hold-time:i?",
        .params     = "keys [hold_ms]",
        .help       = "press keys on the guest's keyboard",
        .cmd        = hmp_sendkey,
        .command_completion = sendkey_completion,
    },

SRST
``sendkey`` *keys* [*hold_ms*]
  Press the keys *keys* together, and release them after *hold_ms* milliseconds. Keys are joined by
  ``-``. Each is a name of QAPI's ``QKeyCode`` (``ctrl-alt-delete``) or a hexadecimal scan code
  (``0x1d-0x38-0x53``). The embedded machine has no keyboard.

  ::

    (qemu) sendkey ctrl-alt-f1
    Error: this machine has no screen, keyboard or mouse
ERST

    {
        .name       = "mouse_move",
        .args_type  = "dx_str:s,dy_str:s,dz_str:s?",
        .params     = "dx dy [dz]",
        .help       = "move the guest's mouse",
        .cmd        = hmp_mouse_move,
    },

SRST
``mouse_move`` *dx* *dy* [*dz*]
  Move the guest's mouse right by *dx* and down by *dy*, and turn its wheel by *dz*. The embedded
  machine has no mouse.
ERST

    {
        .name       = "mouse_button",
        .args_type  = "button_state:i",
        .params     = "state",
        .help       = "set which mouse buttons are pressed",
        .cmd        = hmp_mouse_button,
    },

SRST
``mouse_button`` *state*
  Press the mouse buttons whose bits are set in *state*, and release the others: 1 is left, 2 is
  right, 4 is middle. The embedded machine has no mouse.
ERST

    {
        .name       = "mouse_set",
        .args_type  = "index:i",
        .params     = "index",
        .help       = "select the mouse to use",
        .cmd        = hmp_mouse_set,
    },

SRST
``mouse_set`` *index*
  Select the mouse that receives mouse events, by its number in ``info mice``. The embedded machine
  has no mouse.

  ::

    (qemu) mouse_set 0
    this machine has no screen, keyboard or mouse
ERST

    {
        .name       = "set_password",
        .args_type  = "protocol:s,password:s,display:-ds,connected:s?",
        .params     = "protocol password [-d display] [action-if-connected]",
        .help       = "set the password of VNC or SPICE clients",
        .cmd        = hmp_set_password,
    },

SRST
``set_password`` *protocol* *password* [``-d`` *display*] [*action-if-connected*]
  Set the password of ``vnc`` or ``spice`` clients. *action-if-connected* says what happens to
  clients that are connected: ``fail``, ``disconnect`` or ``keep``; ``vnc`` accepts only ``keep``.
  The embedded machine has no screen.

  ::

    (qemu) set_password vnc secret
    Error: Could not set password
ERST

    {
        .name       = "expire_password",
        .args_type  = "protocol:s,time:s,display:-ds",
        .params     = "protocol time [-d display]",
        .help       = "set when a VNC or SPICE password expires",
        .cmd        = hmp_expire_password,
    },

SRST
``expire_password`` *protocol* *time* [``-d`` *display*]
  Set when the password of ``vnc`` or ``spice`` clients expires: ``now``, ``never``, after ``+``\
  *seconds*, or at a time in seconds since 1970. The embedded machine has no screen and refuses the
  command.
ERST

    {
        .name       = "stopcapture",
        .args_type  = "n:i",
        .params     = "capture index",
        .help       = "stop an audio recording",
        .cmd        = hmp_stopcapture,
    },

SRST
``stopcapture`` *index*
  Stop the audio recording *index*, as numbered by ``info capture``. The embedded machine has no
  sound.
ERST

    {
        .name       = "wavcapture",
        .args_type  = "path:F,audiodev:s,freq:i?,bits:i?,nchannels:i?",
        .params     = "path audiodev [frequency [bits [channels]]]",
        .help       = "record the guest's audio to a file",
        .cmd        = hmp_wavcapture,
    },

SRST
``wavcapture`` *path* *audiodev* [*frequency* [*bits* [*channels*]]]
  Record the audio of *audiodev* to the file *path*. The embedded machine has no sound and writes no
  file::

    (qemu) wavcapture sound.wav snd0
    Audiodev 'snd0' not found
ERST

DEFHEADING(Console settings)

    {
        .name       = "events",
        .args_type  = "option:b?",
        .params     = "[on|off]",
        .help       = "show or hide events at this terminal",
        .cmd        = hmp_events,
        .side       = "console",
    },

SRST
``events`` [``on``\|\ ``off``]
  Show or hide events above the line you type: the progress and end of migrations and block jobs,
  failed requests of guests, and NBD clients that connect and disconnect. At a terminal they are
  shown (``on``) at first. The setting belongs to this terminal. Without an argument the command
  prints the setting. In scripts and on sockets events are never shown, and ``events on`` is
  refused. QEMU has no such command.

  In a script::

    (qemu) events
    events: off
    (qemu) events off
    (qemu) events on
    events: only a terminal shows events; programs receive them over QMP
ERST

    {
        .name       = "keys",
        .args_type  = "mode:s?",
        .params     = "[emacs|vi]",
        .help       = "choose the line editor's keys",
        .cmd        = hmp_keys,
        .side       = "console",
    },

SRST
``keys`` [``emacs``\|\ ``vi``]
  Edit lines with the keys of Emacs (the default) or of vi. For vi, the row below the prompt shows
  the mode. The setting belongs to this terminal and lasts until the program ends. Without an
  argument the command shows the setting. In scripts and on sockets it is refused. QEMU has no such
  command.
ERST

DEFHEADING(Scripts and tools)

    {
        .name       = "include",
        .args_type  = "filename:F",
        .params     = "filename",
        .help       = "run the lines of a file",
        .cmd        = hmp_include,
        .side       = "console",
    },

SRST
``include`` *filename*
  Run the lines of the file *filename*, and stop at the first line that fails. The message names the
  file and the number of that line. In a script, a relative name starts from the folder of the
  script. A file that is already running is refused. QEMU has no such command.

  With a file ``lines.hmp`` of two lines, ``info status`` and ``nosuch``::

    (qemu) include lines.hmp
    VM status: running
    unknown command: 'nosuch'
    lines.hmp:2: failed: nosuch
    (qemu) include nosuch.hmp
    include: nosuch.hmp: No such file or directory
ERST

    {
        .name       = "wait",
        .args_type  = "what:s?,id:s?,timeout:s?",
        .params     = "[migrate|job] [id] [timeout]",
        .help       = "wait until a migration or a job has ended",
        .cmd        = hmp_wait,
        .command_completion = wait_completion,
        .side       = "console",
    },

SRST
``wait migrate`` [*timeout*] or ``wait job`` *id* [*timeout*]
  ``wait`` alone is ``wait migrate``. Wait until the outgoing or incoming migration, or the job *id*, has ended. For a job that
  you must complete by a command, wait until it is ready. If it has ended already, the command
  returns at once. The command fails, with the reason, if the migration or job fails or is
  cancelled, or after *timeout* seconds. Ctrl-C stops only the waiting. QEMU has no such command.

  ::

    (qemu) wait migrate
    wait: there is no migration to wait for
    (qemu) block_stream d0
    (qemu) wait job d0 5
    (qemu) wait job d1
    Error: Job not found: 'd1'
ERST

    {
        .name       = "watch",
        .args_type  = "count:-ns,interval:T?,line:S",
        .params     = "[-n count] [interval] line",
        .help       = "repeat a line at an interval",
        .cmd        = hmp_watch,
        .command_completion = line_completion,
        .side       = "console",
    },

SRST
``watch`` [``-n`` *count*] [*interval*] *line*
  Run *line* every second, or every *interval* seconds, at least 0.1, and print the time of day before
  each answer. On a terminal each answer takes the place of the one before it. It runs *count* times,
  or until Ctrl-C, which leaves the last answer; without *count* the command works only at a terminal.
  It stops if *line* fails. QEMU has no such command.

  ::

    (qemu) watch -n 2 0.1 info status
    [...]
    VM status: running
    [...]
    VM status: running
ERST

    {
        .name       = "time",
        .args_type  = "line:S",
        .params     = "line",
        .help       = "run a line and print how long it took",
        .cmd        = hmp_time,
        .command_completion = line_completion,
        .side       = "console",
    },

SRST
``time`` *line*
  Run *line*, then print how long it took. The command fails if *line* fails. QEMU has no such
  command.

  ::

    (qemu) time stop
    Took ... s
ERST

    {
        .name       = "transcript",
        .args_type  = "filename:F",
        .params     = "filename|off",
        .help       = "record input, answers and events in a file",
        .cmd        = hmp_transcript,
        .side       = "console",
    },

SRST
``transcript`` *filename*\ \|\ ``off``
  Append to the file *filename* every line given on any of the program's monitors, every answer and
  every event, each with its time. ``off`` ends the recording. Passwords and the data of secrets are
  recorded as ``***``. A disk image in use is refused. For a file named ``off``, write ``./off``.
  QEMU has no such command; QEMU's ``log`` is something else.

  ::

    (qemu) transcript nosuch/lines.txt
    Error: Could not open 'nosuch/lines.txt': No such file or directory
    (qemu) transcript lines.txt
    (qemu) info status
    VM status: running
    (qemu) transcript off
    (qemu) transcript off
    transcript: no transcript is being written
ERST

    {
        .name       = "yank",
        .args_type  = "type:s?,id:s?",
        .params     = "[migration|block-node NAME|chardev ID]",
        .help       = "break a connection of a QEMU that is stuck",
        .cmd        = hmp_yank,
        .command_completion = yank_completion,
        .also       = "unfreeze|unstick|stuck",
        .needs      = "network",
        .side       = "console",
    },

SRST
``yank`` [``migration``\ \|\ ``block-node`` *name*\ \|\ ``chardev`` *id*]
  Break a network connection of a QEMU that qmon is connected to, or list those that can be broken. A
  QEMU that waits for a silent host answers no other line. Press Ctrl-C, which stops only the waiting,
  then give this command: QEMU takes it out of turn. What used the connection fails. qmon's own machine
  never needs it, and QEMU's monitor has no such command.

  ::

    (qemu) yank
    yank: this target has no QMP command 'query-yank'
ERST

    {
        .name       = "qmp",
        .args_type  = "name:s,arguments:S?",
        .params     = "name [json]",
        .help       = "run a QMP command",
        .cmd        = hmp_qmp,
        .command_completion = qmp_completion,
        .side       = "console",
    },

SRST
``qmp`` *name* [*json*]
  Run the QMP command *name* with the arguments in the JSON object *json*, and print the result as
  JSON: indented at a terminal, otherwise on one line. QEMU has no such command.

  ::

    (qemu) qmp query-status
    {"running": true, "singlestep": false, "status": "running"}
    (qemu) qmp block_resize {"device": "ro"}
    Error: Parameter 'size' is missing
    (qemu) qmp nosuch
    qmp: this target has no QMP command 'nosuch'
ERST
