HXCOMM The commands of the monitor. Parsing, help, completion, highlighting and the reference
HXCOMM manual all come from this table. The format is QEMU's; a flag may also name a bare word
HXCOMM that means the same (blk:-b|blk).
HXCOMM Text between SRST and ERST documents the entry before it and goes to the manual.

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
