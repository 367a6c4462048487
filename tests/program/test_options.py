"""The command line: QEMU's options by their whole names, and what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import ProblemsError
from qmon.notation.chardev_options import SHORT_FORMS
from qmon.notation.device_options import MonitorMode, MonitorOptions
from qmon.notation.units import SIZE_HINT
from qmon.program.option_table import OPTIONS, Treatment, help_text
from qmon.program.options import ScriptOption, Show, parse

UUID = "01234567-89ab-cdef-0123-456789abcdef"
TABLE = sorted(OPTIONS)
IGNORED = [name for name in TABLE if OPTIONS[name].treatment is Treatment.IGNORED]
REFUSED = [name for name in TABLE if OPTIONS[name].treatment is Treatment.REFUSED]
BOTH_READ_ONLY = "'read-only' and its alias 'readonly' can't be used at the same time"
TWICE = "cannot use stdio by multiple character devices"
NO_DRIVER = f"is not a valid char driver: use {SHORT_FORMS}"
NOT_RAW_S = "Block format 'raw' does not support the option"
DRIVERS = "file, host_device, nbd, raw, qcow2 or throttle"
ARGUMENTS = {
    "drive": "file=disk.img,if=none",
    "monitor": "none",
    "qmp": "unix:q.sock,server,nowait",
    "qmp-pretty": "unix:p.sock,server,nowait",
    "chardev": "null,id=c",
    "mon": "d",
    "blockdev": "file,node-name=n,filename=x",
    "object": "secret,id=s0,data=x",
    "uuid": UUID,
    "incoming": "tcp:0:4444",
    "readconfig": os.devnull,
    "set": "device.x.y=z",
    "add-fd": "fd=9,set=0",
    "completion": "bash",
    "connect": "unix:q.qmp",
}

# an operating system's argument: any text without NUL
argument_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
file_names = argument_texts.filter(bool)
dashes = st.sampled_from(["-", "--"])


def escape(text: str) -> str:
    return text.replace(",", ",,")


def refusal(*argv: str) -> str:
    with pytest.raises(ProblemsError) as caught:
        parse(argv)
    return str(caught.value)


def words_for(name: str, dash: str = "-") -> list[str]:
    option = OPTIONS[name]
    return [dash + name, ARGUMENTS.get(name, "x")] if option.takes_argument else [dash + name]


@pytest.mark.parametrize("name", [name for name in TABLE if name not in REFUSED])
def test_one_dash_and_two_mean_the_same(name: str) -> None:
    alone = {"connect": [], "brief": ["-connect", "unix:q"], "make-certs": ["host"]}
    beside = alone.get(name, ["-chardev", "null,id=d"])
    assert parse([*words_for(name, "-"), *beside]) == parse([*words_for(name, "--"), *beside])


@pytest.mark.parametrize("name", [name for name in TABLE if OPTIONS[name].takes_argument])
def test_an_argument_that_is_missing_is_told(name: str) -> None:
    assert refusal("-S", f"-{name}") == f"-{name}: requires an argument"
    assert refusal("-S", f"--{name}") == f"--{name}: requires an argument"


@given(st.sampled_from(TABLE), dashes, argument_texts)
def test_nothing_is_abbreviated_and_nothing_is_glued_on(name: str, dash: str, tail: str) -> None:
    for word in (dash + name[: len(name) // 2], dash + name + tail, f"-{dash}{name}"):
        if word.removeprefix("-").removeprefix("-") not in OPTIONS or word.startswith("---"):
            assert refusal(word, "x") == f"{word}: invalid option"


@given(st.lists(st.tuples(st.sampled_from(IGNORED), dashes, argument_texts), max_size=8))
def test_ignored_options_take_their_argument_and_are_named_once(uses: list[tuple[str, str, str]]) -> None:
    argv = []
    for name, dash, argument in uses:
        argv += [dash + name, argument] if OPTIONS[name].takes_argument else [dash + name]
    options = parse([*argv, "-S"])
    assert options.paused
    assert not options.drives
    assert options.ignored == tuple(dict.fromkeys(f"-{name}" for name, _, _ in uses))
    if uses:
        assert options.note is not None
        assert "\n" not in options.note
    else:
        assert options.note is None


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_left_out_is_refused_with_a_hint(name: str) -> None:
    words = words_for(name)
    assert refusal(*words) == f"{' '.join(words)}: not supported: {OPTIONS[name].help}"


def test_an_unknown_option_counts_before_a_question() -> None:
    assert refusal("-version", "-cpux", "pux") == "-cpux: invalid option"


@pytest.mark.parametrize("word", ["-h", "-help", "--help", "--h"])
def test_help_and_version_end_the_reading(word: str) -> None:
    assert parse([word, "-uuid", "wrong"]).show is Show.HELP
    assert parse(["-version", "-uuid", "wrong"]).show is Show.VERSION


def test_a_completion_ends_the_reading() -> None:
    options = parse(["-completion", "zsh", "-uuid", "wrong"])
    assert (options.show, options.shell) == (Show.COMPLETION, "zsh")


def test_the_help_names_every_option() -> None:
    words = help_text("qmon").split()
    assert {f"-{name}" for name in OPTIONS} <= set(words)
    assert max(map(len, help_text("qmon").splitlines())) <= 79


@given(file_names, st.sampled_from(["none", "virtio"]), st.sampled_from(["raw", "qcow2"]), st.booleans())
def test_a_drive_is_read_whatever_its_file_is_called(
    file: str, interface: str, format: str, read_only: bool
) -> None:
    value = f"file={escape(file)},format={format},if={interface},readonly={'on' if read_only else 'off'}"
    (drive,) = parse(["-drive", value]).drives
    assert drive.file == file
    assert drive.id == f"{interface}0"
    assert (drive.interface, drive.format, drive.read_only) == (interface, format, read_only)


@given(file_names.filter(lambda name: not name.startswith("-")))
def test_a_bare_word_is_the_first_hard_disk(file: str) -> None:
    """Commas are the file's own there, as they are behind -hda."""
    (bare,) = parse([file]).drives
    (named,) = parse(["-hda", file]).drives
    assert bare == named
    assert (bare.file, bare.id) == (file, "ide0-hd0")


@pytest.mark.parametrize(
    ("argv", "ids"),
    [
        (["-drive", "if=none,file=a", "-drive", "if=none,file=b"], ["none0", "none1"]),
        (["-drive", "if=none,file=a", "-drive", "if=none,file=b,index=7"], ["none0", "none7"]),
        (["-drive", "if=none,file=a,bus=1,unit=2"], ["none2"]),
        (["-drive", "if=none,file=a,media=cdrom"], ["none0"]),
        (["-drive", "if=virtio,file=a", "-drive", "file=b"], ["virtio0", "ide0-hd0"]),
        (["a", "-drive", "file=b", "-drive", "file=c,media=cdrom"], ["ide0-hd0", "ide0-hd1", "ide1-cd0"]),
        (["-drive", "file=a,index=3", "-hda", "b"], ["ide1-hd1", "ide0-hd0"]),
        (["-drive", "if=none,file=a,id=x", "-drive", "if=none,file=b"], ["x", "none1"]),
        (["-cdrom", "a", "-fdb", "b", "-pflash", "c"], ["ide1-cd0", "floppy1", "pflash0"]),
    ],
)  # fmt: skip
def test_ids_are_those_that_qemu_gives(argv: list[str], ids: list[str]) -> None:
    """Each row was seen in `info block` of QEMU 7.2; tests/interop asks it again."""
    assert [drive.id for drive in parse(argv).drives] == ids


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["if=none,id=d,file=a", "if=none,id=d,file=b"], "Duplicate ID 'd' for drive"),
        (["if=none,file=a", "if=none,id=none0,file=b"], "Device with id 'none0' already exists"),
        (["if=none,file=a,index=1", "if=none,file=b,index=1"], "drive with bus=0, unit=1 (index=1) exists"),
        (["file=a,index=1,unit=1"], "index cannot be used with bus and unit"),
        (["file=a,unit=2"], "unit 2 too big (max is 1)"),
        (["file=a,index=x"], "Parameter 'index' expects a number"),
        (["file=a,if=blah"], "unsupported bus type 'blah'"),
        (["file=a,media=tape"], "'tape' invalid media"),
        (["file=a,readonly=maybe"], "Parameter 'read-only' expects 'on' or 'off'"),
        (["file=a,readonly=on,read-only=on"], BOTH_READ_ONLY),
        (["file=a,format=raw,driver=raw"], "Cannot specify both 'driver' and 'format'"),
        (["file=a,format=raw,colour=red"], "Block format 'raw' does not support the option 'colour'"),
        (["file=a,format=vmdk"], "Unknown driver 'vmdk': use raw or qcow2"),
        (["file=a,format=qcow2,l2-cache-size=x"], f"Parameter 'l2-cache-size' {SIZE_HINT}"),
        (["file=a,cache-size=1M,l2-cache-size=2M"], "l2-cache-size may not exceed cache-size"),
        (["file=a,format=raw,pass-discard-other=on"], f"{NOT_RAW_S} 'pass-discard-other'"),
        (["file.driver=null-co,file.size=1M"], f"driver 'null-co' is not supported: use {DRIVERS}"),
        (["if=none,file=a,node-name=1"], "Invalid node-name: '1'"),
        (["if=none,file=a,node-name="], "Invalid node-name: ''"),
        ([f"if=none,file=a,node-name={'n' * 32}"], "Node name too long"),
        (["if=none,file=a,node-name=n", "if=none,file=b,node-name=n"], "Duplicate nodes with node-name='n'"),
        (["file=a,id=d,if=none", "file=b,node-name=d"], "node-name=d is conflicting with a device id"),
        (["if=none,file=a,id=n,node-name=n"], "Device name 'n' conflicts with an existing node name"),
        (["file=a,node-name=n", "file=b,id=n"], "Device name 'n' conflicts with an existing node name"),
        (["file=a,media=tape,cache=x"], "invalid cache option"),
        (["file=a,discard=x,format=raw,driver=raw"], "Cannot specify both 'driver' and 'format'"),
        (["if=none,id=d,colour=red"], "Must specify either driver or file"),
        (["if=none,id=d"], "a drive without an image is not supported: add file=FILE"),
    ],
)  # fmt: skip
def test_a_drive_that_can_not_be_is_refused(values: list[str], reason: str) -> None:
    argv = [word for value in values for word in ("-drive", value)]
    assert refusal(*argv) == f"-drive {values[-1]}: {reason}"


@given(st.text(max_size=8))
def test_an_id_is_an_identifier_or_refused(text: str) -> None:
    good = (
        text.isascii()
        and text[:1].isalpha()
        and text.replace("-", "").replace(".", "").replace("_", "").isalnum()
    )
    value = f"if=none,file=a,id={escape(text)}"
    if good:
        assert parse(["-drive", value]).drives[0].id == text
    else:
        assert "Parameter 'id' expects an identifier" in refusal("-drive", value)


def test_tuning_of_a_drive_is_ignored_and_named() -> None:
    value = "file=a,if=none,cache=none,aio=native,discard=unmap,detect-zeroes=unmap,throttling.bps-total=1"
    options = parse(["-drive", value, "-drive", "if=ide,media=cdrom"])
    assert [(drive.id, drive.limits) for drive in options.drives] == [("none0", {"bps-total": 1})]
    assert options.ignored == (
        "-drive aio",
        "-drive discard",
        "-drive media=cdrom without a file",
    )


def test_a_whole_line_is_read() -> None:
    argv = f"-M pc -m 64 -name web,process=q -uuid {UUID.upper()} -S -drive file=d,format=raw,if=virtio,id=d0"
    argv += (
        " -incoming tcp:0:4444 -pidfile p -D log -script s -daemonize -monitor none -qmp unix:q,server,nowait"
    )
    options = parse(argv.split())
    assert (options.name, options.uuid, options.paused) == ("web", UUID, True)
    assert (options.incoming, options.pidfile, options.logfile, options.scripts) == (
        "tcp:0:4444",
        "p",
        "log",
        (ScriptOption("s"),),
    )
    assert options.daemonize
    assert options.monitors == (
        MonitorOptions("compat_monitor0", MonitorMode.CONTROL, shown="-qmp unix:q,server,nowait"),
    )
    assert options.ignored == ("-M", "-m", "-name process")
    drive = options.drives[0]
    assert (drive.id, drive.file, drive.format, drive.interface, drive.read_only) == (
        "d0",
        "d",
        "raw",
        "virtio",
        False,
    )


def test_scripts_keep_their_order() -> None:
    line = "-c stop -script s -keep-going -c cont -json -y -q -trace-qmp --script -"
    options = parse(line.split())
    assert options.scripts == (
        ScriptOption("stop", is_line=True),
        ScriptOption("s"),
        ScriptOption("cont", is_line=True),
        ScriptOption("-"),
    )
    assert (options.keep_going, options.json, options.assume_yes) == (True, True, True)
    assert (options.quiet, options.trace_qmp) == (True, True)
    assert (options.plain, options.user_config) == (False, True)
    options = parse(["-plain", "--no-user-config"])
    assert (options.plain, options.user_config, options.ignored) == (True, False, ())
    plain = parse([])
    assert (plain.scripts, plain.keep_going, plain.json, plain.assume_yes) == ((), False, False, False)
    assert (plain.quiet, plain.trace_qmp) == (False, False)


@pytest.mark.parametrize("more", ["-monitor stdio", "-daemonize", "-serial mon:stdio"])
def test_a_script_on_standard_input_has_it_alone(more: str) -> None:
    problem = "-script -: not possible with -daemonize or a monitor on standard input"
    assert refusal(*f"-script - {more}".split()) == problem


@pytest.mark.parametrize("uuid", ["", "abc", UUID + "0", UUID.replace("-", ""), "g" + UUID[1:]])
def test_a_wrong_uuid_is_refused(uuid: str) -> None:
    assert refusal("-uuid", uuid) == f"-uuid {uuid}: failed to parse UUID string: wrong format"


def made(*argv: str) -> tuple[str, str, dict[str, Any]]:
    """The one character device that a line makes."""
    (one,) = parse(argv).chardevs
    return one.options.id, one.options.kind, one.options.data


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1, max_size=20))
def test_a_monitor_socket_is_read_in_both_spellings(path: str) -> None:
    address = {"type": "unix", "data": {"path": path}}
    expected = ("compat_monitor0", "socket", {"addr": address, "server": True, "wait": False})
    for switches in ("server,nowait", "server=on,wait=off", "nowait,server", "wait=no,server=yes"):
        for option in ("-monitor", "-qmp", "-qmp-pretty"):
            assert made(option, f"unix:{escape(path)},{switches}") == expected


@pytest.mark.parametrize(
    ("short", "kind", "data"),
    [
        ("null", "null", {}),
        ("pty", "pty", {}),
        ("file:a,b", "file", {"out": "a,b"}),
        ("pipe:a", "pipe", {"device": "a"}),
        ("unix:a", "socket", {"addr": {"type": "unix", "data": {"path": "a"}}, "server": False}),
        (
            "telnet:[::1]:5,server",
            "socket",
            {
                "addr": {"type": "inet", "data": {"host": "::1", "port": "5"}},
                "server": True,
                "wait": True,
                "telnet": True,
            },
        ),
        (
            "tcp::5,to=9,reconnect=3",
            "socket",
            {
                "addr": {"type": "inet", "data": {"host": "", "port": "5", "to": 9}},
                "server": False,
                "reconnect": 3,
            },
        ),
    ],
)
def test_a_short_form_is_read(short: str, kind: str, data: dict[str, Any]) -> None:
    assert made("-monitor", short) == ("compat_monitor0", kind, data)


def test_monitors_are_put_on_devices_that_are_made_before_or_after() -> None:
    options = parse(
        ["-mon", "c,mode=control,pretty=on", "-chardev", "null,id=c", "-chardev", "null,id=d", "-mon", "d"]
    )
    assert [(each.chardev, each.mode, each.pretty) for each in options.monitors] == [
        ("c", MonitorMode.CONTROL, True),
        ("d", MonitorMode.READLINE, False),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-monitor telnet", f"-monitor telnet: 'telnet' {NO_DRIVER}"),
        ("-qmp none", f"-qmp none: 'none' {NO_DRIVER}"),
        ("-monitor tcp:a", "-monitor tcp:a: error parsing address 'a'"),
        ("-qmp unix:a,server=maybe", "-qmp unix:a,server=maybe: Parameter 'server' expects 'on' or 'off'"),
        ("-monitor unix:a,foo=1", "-monitor unix:a,foo=1: Invalid parameter 'foo'"),
        ("-monitor chardev:c", '-monitor chardev:c: chardev "c" not found'),
        ("-mon c", '-mon c: chardev "c" not found'),
        ("-mon mode=control", "-mon mode=control: Parameter 'chardev' is missing"),
        ("-mon c,mode=x", "-mon c,mode=x: Parameter 'mode' does not accept value 'x'"),
        ("-mon c,foo=x", "-mon c,foo=x: Invalid parameter 'foo'"),
        ("-mon c,pretty=on", "-mon c,pretty=on: 'pretty' is not compatible with HMP monitors"),
        ("-chardev null", "-chardev null: chardev: no id specified"),
        ("-chardev foo,id=c", "-chardev foo,id=c: 'foo' is not a valid char driver name"),
        ("-chardev id=c", '-chardev id=c: chardev: "c" missing backend'),
        ("-chardev null,id=c -chardev pty,id=c", "-chardev pty,id=c: Duplicate ID 'c' for chardev"),
        ("-chardev null,id=c -mon c -monitor chardev:c", "-monitor chardev:c: Device 'c' is in use"),
        ("-chardev stdio,id=c -monitor stdio", f"-monitor stdio: {TWICE}"),
    ],
)  # fmt: skip
def test_a_monitor_that_can_not_be_is_refused(line: str, reason: str) -> None:
    assert refusal(*line.split()) == reason


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", True),
        ("-S", True),
        ("-monitor stdio", True),
        ("-monitor none", False),
        ("-monitor unix:m,server,nowait", False),
        ("-monitor unix:m,server,nowait -monitor stdio", True),
        ("-qmp unix:q,server,nowait", False),
        ("-chardev stdio,id=c", False),
        ("-chardev stdio,id=c -mon c", True),
        ("-chardev stdio,id=c -mon c,mode=control", False),
        ("-serial mon:stdio", True),
        ("-serial none -parallel none", True),
        ("-qmp unix:q,server,nowait -monitor stdio", True),
        ("-daemonize", False),
        ("-script s", False),
        ("-c stop", False),
    ],
)
def test_standard_input_is_a_monitor_unless_commands_come_from_elsewhere(line: str, expected: bool) -> None:
    assert parse(line.split()).stdin_monitor is expected


def test_the_terminal_is_one_monitor_only() -> None:
    twice = refusal("-monitor", "stdio", "-monitor", "stdio")
    assert twice == "-monitor stdio: cannot use stdio by multiple character devices"
    assert refusal("-monitor", "stdio", "-daemonize") == "-monitor stdio: cannot use stdio with -daemonize"


def test_reading_the_command_line_loads_nothing_heavy() -> None:
    program = "import sys, qmon.program.options; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"asyncio", "prompt_toolkit", "pygments", "qemu", "importlib.metadata"} & set(
        run.stdout.split()
    )


def test_objects_are_kept_in_their_order_with_values_of_their_types() -> None:
    argv = ["-object", "iothread,id=b,poll-max-ns=0x10", "-object", "{'qom-type': 'iothread', 'id': 'a'}"]
    assert parse(argv).objects == (
        {"qom-type": "iothread", "id": "b", "poll-max-ns": 16},
        {"qom-type": "iothread", "id": "a"},
    )
    assert refusal("-object", "iothread,id=a", "-object", "iothread,id=a").endswith(
        "Duplicate ID 'a' for object"
    )


def test_an_object_without_effect_is_taken_and_named() -> None:
    options = parse(["-object", "memory-backend-ram,id=m,size=1G", "-object", "{'qom-type': 'can-bus'}"])
    assert options.objects == ()
    assert options.note == "these options are ignored: -object memory-backend-ram, -object can-bus"
    assert refusal("-object", "nosuch,id=a").endswith("Parameter 'qom-type' does not accept value 'nosuch'")


def test_help_for_objects_is_shown_instead_of_running() -> None:
    assert parse(["-object", "secret,help"]).object_type == "secret"
    assert parse(["-object", "help"]).show is Show.OBJECTS


def test_a_console_waits_for_a_guest_only_where_it_can() -> None:
    with pytest.raises(ProblemsError) as caught:
        parse("-connect hmp:unix:m -brief -incoming tcp:0:4444 -m 64".split())
    assert caught.value.problems == (
        "-m 64: not possible with -connect: the machine runs already",
        "-incoming: not possible with -brief: the console has to stay connected",
        "-incoming: not possible with hmp: use the QEMU's -qmp monitor",
    )
    assert refusal(*"-connect libvirt:web1 -incoming defer".split()).endswith(
        "virsh migrate --live --copy-storage-all DOMAIN URI"
    )
    assert parse("-connect unix:q -incoming unix:m".split()).incoming == "unix:m"
