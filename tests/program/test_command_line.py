"""The whole command line: what is read from files, what one option changes in another, and all refusals."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import ProblemsError
from qmon.notation.config_file import escape
from qmon.notation.device_options import MonitorMode
from qmon.program.options import Options, parse
from tests.support.command_lines import libvirt, libvirt_disk, proxmox


def refusals(*argv: str) -> tuple[str, ...]:
    with pytest.raises(ProblemsError) as caught:
        parse(argv)
    return caught.value.problems


def config(folder: Path, text: str) -> str:
    path = folder / "vm.cfg"
    path.write_text(text)
    return str(path)


# All refusals at once


def test_all_that_is_wrong_is_told_at_once() -> None:
    line = "-cpux pux -uuid wrong -drive if=none,file=a,id=d0 -drive if=none,file=b,id=d0 -S -name"
    assert refusals(*line.split()) == (
        "-cpux: invalid option",
        "-uuid wrong: failed to parse UUID string: wrong format",
        "-drive if=none,file=b,id=d0: Duplicate ID 'd0' for drive",
        "-name: requires an argument",
    )


def test_the_word_behind_an_unknown_option_is_no_disk() -> None:
    assert refusals("-first", "x", "-second", "y") == ("-first: invalid option", "-second: invalid option")


def test_a_monitor_is_not_missed_whose_device_was_refused() -> None:
    line = "-chardev socket,id=c,colour=red -mon c"
    assert refusals(*line.split()) == ("-chardev socket,id=c,colour=red: Invalid parameter 'colour'",)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("tcp:0", "error parsing address '0': the port is missing: write tcp:0:PORT"),
        ("hostb:4444", "Parameter 'uri' expects a valid migration protocol: write tcp:hostb:4444"),
        ("tcp:0:70000", "address resolution failed for 0:70000: a port is at most 65535"),
        ("/run/in", "Parameter 'uri' expects a valid migration protocol: write unix:/run/in"),
    ],
)
def test_incoming_says_how_its_address_is_written(uri: str, reason: str) -> None:
    assert refusals("-incoming", uri) == (f"-incoming {uri}: {reason}",)


# -readconfig


def test_a_file_of_options_is_read_as_the_options_are(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        """\
# the machine
[name]
  guest = "web1"
[machine]
  type = "q35"
[drive "d0"]
  file = "a,b.img"
  format = "raw"
  if = "none"
[chardev "c"]
  backend = "socket"
  path = "m.sock"
  server = "on"
  wait = "off"
[mon "m"]
  chardev = "c"
  mode = "control"
[object "s0"]
  qom-type = "secret"
  data = "x"
""",
    )
    line = [
        *("-name", "guest=web1", "-machine", "q35", "-drive", "file=a,,b.img,format=raw,if=none,id=d0"),
        *("-chardev", "socket,path=m.sock,server=on,wait=off,id=c", "-mon", "chardev=c,mode=control"),
        *("-object", "secret,data=x,id=s0"),
    ]
    assert parse(["-readconfig", path]) == parse(line)


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
values = st.text(
    st.characters(codec="utf-8", exclude_characters='"\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029'), max_size=9
)


@given(st.dictionaries(names, values.filter(bool), max_size=3))
def test_a_value_is_kept_whatever_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, str]
) -> None:
    text = "".join(f'[drive "{name}"]\n file = "{file}"\n if = "none"\n' for name, file in given.items())
    read = parse(["-readconfig", config(tmp_path_factory.mktemp("config"), text)])
    assert {drive.id: drive.file for drive in read.drives} == given


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('file = "x"\n', ":1: no group defined: write [GROUP] before the first key"),
        ('[drive "d0"]\n\n file = x\n', ':3: file = x is not an option: write KEY = "VALUE"'),
        ("[drive\n", ':1: [drive is not a section: write [GROUP] or [GROUP "ID"]'),
        ("\n[uuid]\n", ":2: [uuid]: There is no option group 'uuid'"),
        ('[drive "d0"]\n if = "xx"\n', """:1: [drive "d0"] if=xx,id=d0: unsupported bus type 'xx'"""),
    ],
)
def test_a_wrong_line_of_a_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = config(tmp_path, text)
    assert refusals("-readconfig", path) == (f"-readconfig {path}{problem}",)


pieces = st.sampled_from(
    ["[", "]", "drive", "mon", "object", '"', " ", "=", "\n", "id", "file", "#", ",", "x"]
)


@given(st.lists(pieces, max_size=20).map("".join) | st.text(max_size=30))
def test_any_text_is_read_or_refused_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("config") / "vm.cfg"
    path.write_bytes(text.encode())
    problems: tuple[str, ...] = ()
    try:
        parse(["-readconfig", str(path)])
    except ProblemsError as error:
        problems = error.problems
    assert all(problem.startswith(f"-readconfig {path}:") for problem in problems)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    assert refusals("-readconfig", f"{tmp_path}/none") == (
        f"-readconfig {tmp_path}/none: Could not open '{tmp_path}/none': No such file or directory",
    )


# -set


@given(values)
def test_set_changes_an_option_before_it(value: str) -> None:
    line = ["-drive", "if=none,id=d0,file=a,readonly=off", "-drive", "if=none,id=d1,file=b"]
    changed = parse([*line, "-set", f"drive.d1.file={value}x", "-set", "drive.d0.readonly=on"])
    assert changed == parse(
        ["-drive", "if=none,id=d0,file=a,readonly=on", "-drive", f"if=none,id=d1,file={escape(value)}x"]
    )


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("x", """can't parse: "x": write GROUP.ID.KEY=VALUE"""),
        ("drive.d0=on", """can't parse: "drive.d0=on": write GROUP.ID.KEY=VALUE"""),
        ("drive.d9.readonly=on", 'there is no drive "d9" defined: -set changes an option before it'),
        ("nosuch.d0.readonly=on", "There is no option group 'nosuch'"),
        ("name.d0.readonly=on", "There is no option group 'name'"),
    ],
)
def test_a_setting_of_nothing_is_refused(setting: str, problem: str) -> None:
    assert refusals("-drive", "if=none,id=d0,file=a", "-set", setting) == (f"-set {setting}: {problem}",)


def test_a_setting_of_what_has_no_effect_has_none() -> None:
    options = parse(["-device", "scsi-hd,id=scsi0", "-set", "device.scsi0.rotation_rate=1"])
    assert options.ignored == ("-device", "-set device")


# -add-fd


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("fd=9", "set option is required and must be non-negative"),
        ("set=1", "fd option is required and must be non-negative"),
        ("fd=-1,set=1", "fd option is required and must be non-negative"),
        ("fd=9,set=-1", "set option is required and must be non-negative"),
        ("fd=2,set=1", "fd cannot be a standard I/O stream"),
        ("fd=x,set=1", "Parameter 'fd' expects a number"),
        ("fd=9,set=1,foo=2", "Invalid parameter 'foo'"),
    ],
)
def test_a_descriptor_that_can_not_be_added_is_refused_in_qemu_s_words(argument: str, problem: str) -> None:
    assert refusals("-add-fd", argument) == (f"-add-fd {argument}: {problem}",)


# Lines that people have


def test_chroot_is_not_left_out_silently() -> None:
    assert parse(["-run-with", "async-teardown=on,user=nobody"]).ignored == ("-run-with",)
    assert refusals("-run-with", "chroot=/srv") == (
        "-run-with chroot=/srv: not supported: start qmon with chroot(8)",
    )


def ignored(options: Options) -> set[str]:
    return set(options.ignored)


def test_a_line_of_libvirt_is_read(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        argv = [*libvirt(tmp_path, listener.fileno()), *libvirt_disk(tmp_path)]
        options = parse(argv)
        assert sum(word.startswith("-") for word in argv) >= 50
        monitor = options.chardevs[0].options
        assert (monitor.id, monitor.data["addr"]["data"]) == ("charmonitor", {"str": str(listener.fileno())})
    assert options.paused
    assert (options.name, options.uuid) == ("web1", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0")
    assert [(each.chardev, each.mode) for each in options.monitors] == [("charmonitor", MonitorMode.CONTROL)]
    assert [each["id"] for each in options.objects] == ["masterKey0"]
    assert [drive.id for drive in options.drives] == ["libvirt-1-storage", "libvirt-1-format"]
    assert ignored(options) >= {"-machine", "-accel", "-device", "-netdev", "-sandbox", "-audiodev", "-msg"}


def test_a_line_of_proxmox_is_read(tmp_path: Path) -> None:
    argv = proxmox(tmp_path)
    options = parse(argv)
    assert (options.name, options.daemonize) == ("web1", True)
    assert [each.chardev for each in options.monitors] == ["qmp", "qmp-event"]
    (drive,) = options.drives
    assert (drive.id, drive.file, drive.format) == ("drive-scsi0", f"{tmp_path}/vm-100-disk-0.raw", "raw")
    assert ignored(options) >= {"-id", "-iscsi", "-device", "-set device", "-smbios", "-vnc"}
