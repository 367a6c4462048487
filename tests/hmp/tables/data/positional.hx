HXCOMM What a table of early 2009 holds: entries by position, types without keys

STEXI
@table @option
ETEXI

    { "help|?", "s?", help_cmd, "[cmd]", "show it" },
STEXI
@item help or ?
{ "no-entry-here", "", do_no, "", "" },
ETEXI

    { "commit", "s", do_commit,
      "device|all", "a comma, a brace } and a # in a sentence" },

    { "eject", "-fB", do_eject,
      "[-f] device", "eject it" },
    { "migrate", "-d-ss", do_migrate, "[-d] [-s] uri", "two flags and a string" },
    { "i", "/ii.", do_ioport_read,
      "/fmt addr", "a format, a number and one behind a dot" },
    { "save", "lis", do_save, "addr size file", "", },
#ifndef CONFIG_OTHER
    { "acl", "sss?i?", do_acl, "<command> <aclname> [<match> [<index>]]\n",
                               "acl show vnc\n"
                               "acl policy vnc\n" },
#if defined(TARGET_I386)
    { "nmi", "i", do_inject_nmi,
      "cpu", "inject one", },
#endif
#endif
    { "mixed", "", do_mixed, .params = "", .help = "by position and by name" },

STEXI
@end table
ETEXI
