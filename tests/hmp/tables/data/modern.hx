HXCOMM What a table of today holds; "an open quote, a { brace and /* no comment
HXCOMM matter to nobody here.

DEFHEADING()
DEFHEADING(First section:)
ARCHHEADING(Only for some machines:, QEMU_ARCH_I386)
SRST
A block that no entry stands before
ERST

    {
        .name       = "plain|p|?",
        .args_type  = "fmt:/,val:l",
        .params     = "/fmt expr",
        .help       = "one sentence",
        .cmd        = hmp_plain,
        .flags      = "p",
    },

SRST
``plain``
  Text with an entry in it that is none::

    { .name = "no-entry-in-a-block", .cmd = hmp_no },

  and with STEXI, #if and " in the middle of a line.
ERST
SRST
A second block of the same entry.
ERST

#if defined(CONFIG_A) && \
    (defined(CONFIG_B) || !defined(CONFIG_C))
    {
        .name       = "conditional",
        .args_type  = "target:-ds,all:-a,file:F,block:B,text:s?,rest:S?",
        .params     = "[-d target] [-a] file block [text]"
                      " [rest]",
        .help       = "joined from "
                      "three " "strings\n\t\t\t and \"escapes\" \\ \x41\101\'",
        .cmd        = hmp_conditional,
        .coroutine  = true,
        .command_completion = conditional_completion,
    },
#  ifdef CONFIG_D
    { .name = "nested", .args_type = "", .params = "", .help = "on one line", .cmd = hmp_nested },
#  elif defined(CONFIG_E)
    { .name = "elif", .args_type = "", .params = "", .help = "", .cmd = hmp_elif, },
#  else
    { .name = "else", .args_type = "", .params = "", .help = "", .cmd = hmp_else, },
#  endif /* CONFIG_D */
#endif

#ifndef CONFIG_F
    {
        .name       = "inside",
#if defined(CONFIG_G)
        .args_type  = "first:i",
        .params     = "first",
#elif defined(CONFIG_H)
        .args_type  = "second:i",
        .params     = "second",
#else
        .args_type  = "third:i",
        .params     = "third",
#endif
        .help       = "the first branch counts",
        .cmd_info_hrt = qmp_x_query_inside,
    },
#else
#error not a line of the table
#endif

    {
        .name       = "below",
        .args_type  = "item:s?",
        .params     = "[subcommand]",
        .help       = "has a table of its own",
        .cmd        = hmp_info_help,
        .sub_table  = hmp_info_cmds,
    },

    {
        .name       = "bare",
        .args_type  = "",
        .params     = "",
        .help       = "",
        .cmd        = NULL
    },
{ .name = "unindented", .args_type = "addr:i,index:i.,size:o?,mib:M,up:b,netdev:O", },
