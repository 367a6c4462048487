HXCOMM What a table of 2010 to 2019 holds
STEXI
@table @option
ETEXI

    {
        .name       = "help|?",
        .args_type  = "name:s?",
        .params     = "[cmd]",
        .help       = "show it",
        .mhandler.cmd = do_help_cmd,
    },

STEXI
@item help or ? [@var{cmd}]
@findex help
It's here: { .name = "no-entry-in-texinfo" },
ETEXI

#ifdef CONFIG_SOMETHING
    {
        .name       = "printed",
        .args_type  = "id:s,speed:f,wait:T",
        .params     = "id speed wait",
        .help       = "a function that prints",
        .user_print = monitor_user_noop,
        .mhandler.cmd_new = do_printed,
    },
#endif
STEXI
@item printed
ETEXI
SQMP
printed
-------

-> { "execute": "printed", "arguments": { "id": "x" } }
<- { "return": {} }

EQMP

    {
        .name       = "later",
        .args_type  = "value:M",
        .params     = "target",
        .help       = "a function that answers later",
        .user_print = monitor_user_noop,
        .mhandler.cmd_async = do_later,
        .flags      = MONITOR_CMD_ASYNC,
    },

    {
        .name       = "told",
        .args_type  = "",
        .params     = "",
        .help       = "a function of the table of info",
        .user_print = do_told_print,
        .mhandler.info_new = do_told,
        .flags      = MONITOR_CMD_ASYNC | MONITOR_CMD_OTHER,
    },

    {
        .name       = "shown",
        .args_type  = "",
        .params     = "",
        .help       = "an older one",
        .mhandler.info = do_shown,
    },

STEXI
@end table
ETEXI
