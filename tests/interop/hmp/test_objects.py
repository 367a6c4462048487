"""Objects: the same lines to a QEMU and to a qmon, and the same options on their command lines."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qmon.hmp.monitor import Monitor
from tests.support.peer import CLOSED, Answer, Peer
from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON
from tests.support.qemu_target import QmpTarget, compare, named_qemu
from tests.support.thoroughness import examples
from tests.support.two_monitors import TwoMonitors, told
from tests.support.waiting import PATIENCE

SESSIONS = Path(__file__).with_name("objects")
QEMU = ("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-monitor", "none")
KEYS = "joe:0123456789abcdef\nqemu:00112233\n"


@pytest.fixture
def monitors(both: TwoMonitors) -> TwoMonitors:
    """Both started anew."""
    both.start_again()
    return both


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64", "openssl")
    folder = tmp_path_factory.mktemp("o")
    with TwoMonitors(folder) as both:
        for each in ("qemu", "qmon"):
            fill(folder / each)
        yield both


def fill(folder: Path) -> None:
    """Files that objects name: a text, and credentials, good and bad."""
    (folder / "f").write_text("hello\n")
    good, bad = folder / "creds", folder / "bad"
    good.mkdir()
    bad.mkdir()
    (good / "keys.psk").write_text(KEYS)
    (bad / "keys.psk").write_text("junk\n")
    (bad / "ca-cert.pem").write_text("junk\n")
    for name in ("ca", "server"):
        made = ["-keyout", f"{name}-key.pem", "-out", f"{name}-cert.pem"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command = ["openssl", "req", "-x509", *curve, *made, "-days", "30", "-subj", f"/CN={name}"]
        subprocess.run(command, cwd=good, check=True, capture_output=True)


def differing(monitors: TwoMonitors, lines: Sequence[str]) -> dict[str, tuple[Answer, Answer]]:
    asked = {f"{number}: {line}": monitors.lines(line) for number, line in enumerate(lines, 1)}
    assert all(CLOSED not in pair for pair in asked.values())
    return {line: (theirs, ours) for line, (theirs, ours) in asked.items() if theirs != ours}


@pytest.mark.parametrize("name", sorted(path.stem for path in SESSIONS.glob("*.hmp")))
def test_a_session_is_answered_as_by_qemu(monitors: TwoMonitors, name: str) -> None:
    lines = (SESSIONS / f"{name}.hmp").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 10
    differences = differing(monitors, lines)
    assert not differences, told(differences)


NUMBERS = ["0", "1", "7", "010", "0x10", "-1", "1k", "1.5", "x", "", "4294967296", "9" * 20, " 3", "+3", "3 "]
SWITCHES = ["on", "off", "yes", "no", "true", "false", "y", "n", "maybe", "", "ON", "1"]
WORDS = ["", "x", "abc", "a,,b", "YWJj", "raw", "base64", "client", "server", "é", "nosuch", ".", "/nosuch"]
VALUES = st.sampled_from([*NUMBERS, *SWITCHES, *WORDS]) | st.text("ab01.,=-é ", max_size=5)
ODD_KEYS = [
    "nosuch",
    "a.b",
    "a..b",
    ".a",
    "a.",
    "1",
    "-a",
    "_a",
    "__a.b_c",
    "é",
    "",
    "id",
    "qom-type.x",
    "limits",
]
TYPES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "iothread": (
        "",
        {"poll-max-ns": NUMBERS, "poll-grow.a": NUMBERS},
    ),
    "secret": (
        "data=abc",
        {
            "data": WORDS,
            "file": ["f", "nosuch", "", "/"],
            "format": WORDS,
        },
    ),
    "throttle-group": (
        "",
        {
            **{f"x-iops-{end}": NUMBERS for end in ("total", "read-max", "total-max-length", "size")},
            **{f"limits.bps-{end}": NUMBERS for end in ("total", "write", "write-max-length", "nosuch")},
        },
    ),
    "tls-creds-anon": ("", {"dir": WORDS, "endpoint": WORDS, "verify-peer": SWITCHES, "priority": WORDS}),
    "authz-simple": ("identity=x", {"identity": WORDS}),
    "authz-list": (
        "",
        {
            "policy": ["allow", "deny", "x"],
            "rules": WORDS,
            **{
                f"rules.{end}": ["allow", "x", "glob"]
                for end in ("0.match", "0.policy", "0.x", "1.match", "x", "01")
            },
        },
    ),
    "nosuch": ("", {}),
}


@st.composite
def options(draw: st.DrawFn) -> str:
    """What ``object_add`` is given: right but for one option."""
    type_name = draw(st.sampled_from(sorted(TYPES)))
    needed, known = TYPES[type_name]
    parts = [draw(st.sampled_from(["", "qom-type="])) + type_name, "id=o", *([needed] if needed else [])]
    expected = draw(st.booleans())
    if known and expected:
        key = draw(st.sampled_from(sorted(known)))
        odd = f"{key}={draw(st.sampled_from(known[key]) | VALUES)}"
    else:
        odd = draw(st.sampled_from(ODD_KEYS)) + draw(st.sampled_from(["=", "=", ""])) + draw(VALUES)
    parts.insert(draw(st.integers(1, len(parts))), odd)
    return ",".join(parts)


@given(text=options())
@settings(max_examples=examples(400))
def test_options_are_read_as_by_qemu(monitors: TwoMonitors, text: str) -> None:
    assume(not re.search(r"(?:^|,)(?:keyid|iv|loaded)\b", text))  # which qmon does not take
    theirs, ours = monitors.lines(f"object_add {text}")
    assert CLOSED not in (theirs, ours)
    for id in ("o", *re.findall(r"id=([^,]*)", text)):
        monitors.lines(f'object_del "{id}"')
    if theirs[:1] == ("List of user creatable objects:",):
        assert ours[:1] == theirs[:1]
        return
    assert ours == theirs


JSON_TOKENS = r"""
{ } [ ] : , "a" 'b' " ' 1 - 0 01 1.5 1. 1e 1e3 -0 true null tru nosuch True
"\n" "\q" "\u00e9" "\ud800" "\ud83d\ude00" "\u12" '\'' "é" % @ \ 1e999 "a":1 "a":
""".split()
JSON_TOKENS += [" ", "9" * 20, "-" + "9" * 20]


@given(text=st.lists(st.sampled_from(JSON_TOKENS), min_size=1, max_size=7).map("".join))
@settings(max_examples=examples(100))
def test_json_is_read_as_by_qemu(monitors: TwoMonitors, text: str) -> None:
    assume(text.strip())
    theirs, ours = monitors.lines(f'object_add {{"qom-type":"secret","id":"o","data":{text}')
    assert ours == theirs
    theirs, ours = monitors.lines("object_del o")
    assert ours == theirs


COMMAND_LINES = [
    ["nosuch"],
    ["iothread"],
    ["iothread,id=1"],
    ["iothread,id=a,x=3"],
    ["iothread,id=a,poll-max-ns=x"],
    ["iothread,id=a,=3"],
    ["iothread,id=a", "iothread,id=a"],
    ["iothread,id=a", "nosuch"],
    ["iothread,id=a", "iothread,id=1"],
    ["secret,id=a"],
    ["secret,id=a,file=nosuch"],
    ["secret,id=a,data=x,format=nosuch"],
    ["tls-creds-x509,id=a,dir=/nosuch"],
    ['{"qom-type":"iothread"}'],
    ['{"qom-type":"iothread","id":"a","poll-max-ns":"3"}'],
    ["{'qom-type':'iothread','id':'a','x':null}"],
    ["{"],
    ["{} x"],
]


@pytest.mark.parametrize("objects", COMMAND_LINES, ids=" ".join)
def test_the_command_line_is_answered_as_by_qemu(objects: list[str], tmp_path: Path) -> None:
    require(QEMU[0])
    argv = [word for each in objects for word in ("-object", each)]
    answers = []
    for command in (QEMU, (*QMON, "-monitor", "none")):
        done = subprocess.run(
            [*command, *argv],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
        answers.append((done.returncode, done.stdout, done.stderr.replace("qemu-system-x86_64: ", "qmon: ")))
    theirs, ours = answers
    assert ours == theirs


def test_an_object_of_the_command_line_is_there_before_the_drives(tmp_path: Path) -> None:
    """What is wrong with both is told in that order."""
    drive = ["-drive", "file=/nosuch.img,id=d0,format=raw,if=none"]
    command = [*QMON, *drive, "-object", "secret,id=s0,file=/nosuch", "-monitor", "none"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=3 * PATIENCE
    )
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("qmon: Unable to read /nosuch: ")
    assert second == "qmon: Could not open '/nosuch.img': No such file or directory"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, QmpTarget]]:
    """A QEMU by its own monitor, and another one as a target of ours."""
    require(QEMU[0], "qemu-img")
    folder = tmp_path_factory.mktemp("p")
    with named_qemu(folder / "hmp") as hmp, named_qemu(folder / "qmp") as other:
        for peer in (hmp, other):
            (peer.folder / "f").write_text("hello\n")
        yield hmp, QmpTarget(other.qmp())


@pytest.mark.parametrize("name", ["others", "secrets"])
def test_a_qemu_that_is_driven_by_qmp_answers_as_by_its_own_monitor(
    pair: tuple[Peer, QmpTarget], name: str
) -> None:
    hmp, target = pair
    lines = (SESSIONS / f"{name}.hmp").read_text(encoding="utf-8").splitlines()
    compare(hmp, Monitor(target), lines)
