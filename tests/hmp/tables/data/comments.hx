HXCOMM Comments as C has them, and what the preprocessor takes away
/* before */    { .name = "first", /* inside */ .args_type = "",
        // .name = "no-line",
        .help = "no /* comment */ and no // comment in a string",
        /* .params = "over
           lines", },
    { .name = "no-comment", .cmd = hmp_no },
        */ .cmd = hmp_first, // behind
    }, /* behind */
/*
    { .name = "no-comment-either", .cmd = hmp_no },
#if defined(NO_CONDITION)
*/
#if 0
    { .name = "never", .cmd = hmp_never },
#else
    { .name = "second", .help = "a \
sentence that goes on", .cmd = hmp_second },
#endif
#if 1
    { .name = "third",
#if 0
        .cmd = hmp_no,
#else
        .cmd = hmp_third,
#endif
    },
#else
    { .name = "other", .cmd = hmp_other },
#endif
