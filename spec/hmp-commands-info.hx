HXCOMM What ``info`` can show. The format is that of hmp-commands.hx.

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
