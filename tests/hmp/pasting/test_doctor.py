"""Commands come out of a text as they were put in, whatever surrounds them, and nothing else comes out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.line.reading import read_line
from qmon.hmp.line.transcript import does_nothing
from qmon.hmp.pasting.doctor import Pasted, as_it_stands, read_pasted
from qmon.hmp.tables.table import default_tables

TABLES = default_tables()

COMMANDS = (
    "stop",
    "info block -v d0",
    "info status # now",
    "migrate -d blk tcp:192.0.2.7:4444",
    "migrate_set_parameter max-bandwidth 100M",
    "p/x 0x10 + 1",
    "?",
    "drive_add 0 if=none,id=d1,file=a\\",
    'drive_add 0 "if=none,id=d1,file=a \\"b\\" \\\\"',
    'qmp blockdev-add {"driver": "file", "filename": "\u201ca\u201d \u2013 b\u2019s\u00a0> $ # &gt;"}',
    "qmp object-add {'qom-type': 'secret', 'id': 'a'}",
    "change ide1-cd0 \u2013foo.iso",
    "change ide1-cd0 \u201cold\u201d.iso",
    "change ide1-cd0 Bob\u2019s.iso",
    "change ide1-cd0 \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.iso",
    "eject &amp;",
    "time watch -n 3 1 info status",
    "include /root/1.hmp",
    "info foo",
)
"""The last one fails."""

WHOLE = tuple(command for command in COMMANDS if not command.endswith("\\"))
"""Those that no other line can continue."""

VIRSH = "virsh qemu-monitor-command vm --hmp"

Wrap = Callable[[str], str]

AROUND: dict[str, Wrap] = {
    "mail": lambda line: f"> {line}",
    "mail of a mail": lambda line: f">> {line}",
    "bar": lambda line: f"| {line}",
    "list": lambda line: f"- {line}",
    "stars": lambda line: f"* {line}",
    "dots": lambda line: f"\u2022 {line}",
    "dashes": lambda line: f"\u2013\u00a0{line}",
    "number": lambda line: f"12. {line}",
    "bracket": lambda line: f"1) {line}",
    "step": lambda line: f"Step 3: {line}",
    "listing": lambda line: f"   7\t{line}",
    "user": lambda line: f"$ {line}",
    "root": lambda line: f"root@host:~# {line}",
    "box": lambda line: f"[root@host vm]# {line}",
    "time": lambda line: f"[12:34:56] {line}",
    "record": lambda line: f"2026-01-02 12:34:56.789+01:00 {line}",
    "speaker": lambda line: f"<bob> {line}",
    "no-break space": lambda line: f"\u00a0{line}",
    "no width": lambda line: f"\u200b\ufeff{line}",
}
"""Decorations that prove nothing."""

PROOFS: dict[str, Wrap] = {
    "prompt": lambda line: f"(qemu) {line}",
    "Proxmox": lambda line: f"qm> {line}",
    "virsh": lambda line: f"virsh qemu-monitor-command vm --hmp {shlex.quote(line)}",
    "virsh --cmd": lambda line: (
        f"sudo virsh -c qemu:///system qemu-monitor-command --hmp --cmd {shlex.quote(line)} vm"
    ),
    "socat": lambda line: f"echo {shlex.quote(line)} | socat - UNIX-CONNECT:/run/m.sock",
    "ssh": lambda line: f"ssh root@host {shlex.quote(f'{VIRSH} {shlex.quote(line)}')}",
    "nc": lambda line: f"printf '%s\\n' {shlex.quote(line)} | sudo nc -U /run/m.sock | tail -n 1",
    "here": lambda line: f"socat - unix:m.sock <<< {shlex.quote(line)}",
}
"""Decorations after which the line went to a monitor."""

TEXTS = (
    "Dear list,",
    "this is how it is done:",
    "VM status: paused (postmigrate)",
    "d0 (#block123): /images/disk.img (raw)",
    "```",
    "{code}",
    "",
    "> ",
    "\u2014\u2014\u2014\u2014\u2014",
    "virsh list --all",
    '{"return": {}}',
)

commands = st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=6)
stacks = st.lists(st.sampled_from(sorted(AROUND)), max_size=4)


def wrapped(line: str, stack: list[str]) -> str:
    """Wrap a line in decorations, the last one outermost."""
    for name in stack:
        line = {**AROUND, **PROOFS}[name](line)
    return line


def read(*lines: str) -> Pasted:
    return read_pasted(TABLES, "".join(f"{line}\n" for line in lines))


@given(commands)
def test_commands_that_stand_alone_are_not_changed(lines: list[str]) -> None:
    text = "\n".join([*lines, "# why", "", "  stop"])
    assert read_pasted(TABLES, text) == as_it_stands(text)
    assert not read_pasted(TABLES, text).is_changed


@given(st.lists(st.tuples(st.sampled_from(COMMANDS), stacks), min_size=1, max_size=6), st.data())
def test_commands_come_out_of_any_decorations_as_they_were(
    lines: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    texts = [wrapped(line, stack) for line, stack in lines]
    changed = texts != [line for line, _ in lines]
    pasted = read(*texts)
    assert pasted.lines == tuple(line for line, _ in lines)
    assert (pasted.is_changed, pasted.left_out) == (changed, ())


@given(
    st.lists(st.tuples(st.sampled_from(WHOLE), st.sampled_from(sorted(PROOFS))), min_size=1, max_size=6),
    stacks,
    st.lists(st.sampled_from([*TEXTS, *WHOLE])),
    st.data(),
)
def test_beside_lines_for_a_monitor_nothing_else_runs(
    proven: list[tuple[str, str]], stack: list[str], others: list[str], data: st.DataObject
) -> None:
    texts = [wrapped(line, [proof, *stack]) for line, proof in proven]
    order = data.draw(st.permutations([*range(len(texts)), *[-1] * len(others)]))
    rest = iter(others)
    pasted = read(*(texts[place] if place >= 0 else next(rest) for place in order))
    assert pasted.lines == tuple(proven[place][0] for place in order if place >= 0)


@given(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=5), st.lists(st.sampled_from(TEXTS), min_size=1))
def test_sentences_and_answers_around_commands_are_left_out(lines: list[str], texts: list[str]) -> None:
    pasted = read("Dear list,", *texts, *lines, *texts)
    assert pasted.lines == tuple(lines)
    assert pasted.is_changed
    assert pasted.left_out[0].text == "Dear list,"


@given(
    st.text(st.sampled_from("stop> -1.#$`'\"\\|&;{}()\n\t\u00a0\u200b\u2013\u201c\u2019\u00e9"), max_size=80),
    st.booleans(),
)
def test_any_text_is_read_and_what_runs_is_in_it(text: str, is_transcript: bool) -> None:
    text = ("(qemu) " if is_transcript else "") + text
    pasted = read_pasted(TABLES, text)
    assert not any("\n" in line for line in (*pasted.lines, pasted.tail))
    if not pasted.is_changed:
        kept = [line for line in (*pasted.lines, pasted.tail) if not does_nothing(line)]
        assert [line for line in kept if line not in text] == []
    if text.endswith("\n"):
        assert pasted.tail == ""


@given(st.text(max_size=200), st.text(max_size=10), st.text(max_size=10))
def test_no_text_raises(text: str, before: str, after: str) -> None:
    read_pasted(TABLES, text, before, after)


@pytest.mark.parametrize("stack", [["user", "list"], ["virsh"], ["no width", "mail"]])
def test_thousands_of_lines_are_read(stack: list[str]) -> None:
    assert read(*[wrapped("info block", stack)] * 3000).lines == ("info block",) * 3000


class TestBackslash:
    """Lines that a backslash joins."""

    @pytest.mark.parametrize(
        ("lines", "command"),
        [
            (["migrate -d blk \\", "   tcp:a:4444"], "migrate -d blk tcp:a:4444"),
            (["drive_add 0 if=none,\\", "    id=d1,\\", "  file=x"], "drive_add 0 if=none,id=d1,file=x"),
            (["> migrate \\", ">  -d \\", ">  tcp:a:4444"], "migrate -d tcp:a:4444"),
            (["$ virsh qemu-monitor-command vm \\", "    --hmp 'info block'"], "info block"),
            (["echo stop \\", "  | socat - unix:m.sock"], "stop"),
            (["(qemu) migrate -d \\", "> tcp:a:4444"], "migrate -d tcp:a:4444"),
        ],
    )
    def test_it_joins_what_is_no_command(self, lines: list[str], command: str) -> None:
        pasted = read(*lines, "stop" if "echo" not in lines[0] else "# end")
        assert pasted.lines[0] == command
        assert pasted.is_changed

    @pytest.mark.parametrize("following", ["stop", "", "# why", "(qemu) stop"])
    def test_it_does_not_join_a_command_a_blank_line_or_a_comment(self, following: str) -> None:
        first = "drive_add 0 file=a\\" if not following.startswith("(") else "(qemu) drive_add 0 file=a\\"
        assert read(first, following).lines[0] == "drive_add 0 file=a\\"

    def test_the_last_one_and_one_in_a_comment_are_kept(self) -> None:
        assert read("eject a\\", "Dear list,").left_out[0].text == "Dear list,"
        assert read("stop # \\", "foo").lines == ("stop # \\", "foo")
        assert read("eject a\\").lines == ("eject a\\",)


class TestHash:
    """``#`` is root's prompt only where nothing else can be meant."""

    def test_it_is_a_prompt_if_only_commands_follow_it(self) -> None:
        pasted = read("# info block", "d0: /images/disk.img", "# stop")
        assert pasted.lines == ("info block", "stop")
        assert [other.number for other in pasted.left_out] == [2]

    def test_it_is_a_prompt_before_a_line_for_a_monitor(self) -> None:
        assert read("# virsh list", f"# {VIRSH} stop").lines == ("stop",)

    def test_it_is_a_prompt_beside_other_prompts(self) -> None:
        assert read(f"# {VIRSH} stop", f"$ {VIRSH} cont").lines == ("stop", "cont")

    def test_a_comment_that_may_be_meant_is_shown(self) -> None:
        pasted = read("# why", "# stop", "- cont")
        assert (pasted.lines, [other.text for other in pasted.left_out]) == (("cont",), ["# stop"])
        pasted = read(f"# {VIRSH} stop", f"{VIRSH} cont")
        assert (pasted.lines, len(pasted.left_out)) == (("cont",), 1)

    @pytest.mark.parametrize(
        "lines",
        [
            ("# info block", "stop"),
            (f"# {VIRSH} stop", "cont"),
            ("# stop", "# why not"),
            ("#stop",),
            ("# stop the machine first.",),
        ],
    )
    def test_else_it_starts_a_comment(self, lines: tuple[str, ...]) -> None:
        assert read(*lines) == as_it_stands("".join(f"{line}\n" for line in lines))


class TestCharacters:
    """What programs that show text do to it."""

    @pytest.mark.parametrize(
        ("line", "command"),
        [
            ("migrate \u2013d tcp:a:4444", "migrate -d tcp:a:4444"),
            ("info block \u2013v", "info block -v"),
            ("info block\u2014jobs", "info block-jobs"),
            ("info\u00a0block \u00a0-v", "info block  -v"),
            ("info bl\u200bock", "info block"),
            ("change ide1-cd0 \u201cmy disk.iso\u201d", 'change ide1-cd0 "my disk.iso"'),
            (
                "qmp blockdev-del {\u201cnode-name\u201d: \u201ca\u201d}",
                'qmp blockdev-del {"node-name": "a"}',
            ),
            ("&gt; info block", "info block"),
            ("virsh qemu-monitor-command vm \u2014hmp \u2018info block \u2013v\u2019", "info block -v"),
            ("echo \u201cinfo block\u201d | socat \u2013 unix:m.sock", "info block"),
            ("\u201cinfo block\u201d", "info block"),
            ("\x60info block\x60", "info block"),
            ("<code>info block</code><br>", "info block"),
            ("**info block**", "info block"),
        ],
    )
    def test_a_command_is_mended(self, line: str, command: str) -> None:
        pasted = read(line, "stop")
        assert pasted.lines[0] == command
        assert pasted.is_changed
        assert read_line(TABLES, command).error is None


def test_a_line_with_a_mistake_is_no_text() -> None:
    assert read("info status", "inof status", "stop") == as_it_stands("info status\ninof status\nstop\n")


def test_a_text_without_commands_stands() -> None:
    assert not read("Dear list,", "hello.").is_changed


def test_a_sentence_that_begins_like_a_command_is_left_out_of_a_text() -> None:
    assert read("Dear list,", "stop the machine first:", "stop").lines == ("stop",)


def test_a_command_with_a_mistake_in_a_text_runs_and_fails() -> None:
    assert read("Dear list,", "block_resize d0", "stop").lines == ("block_resize d0", "stop")


class TestPrompt:
    """Text at the prompt, around the cursor."""

    def test_a_piece_of_a_line_is_not_changed(self) -> None:
        assert read_pasted(TABLES, "> stop", "migrate ") == as_it_stands("> stop")
        assert read_pasted(TABLES, " -d ").tail == " -d "

    def test_a_decorated_line_alone_is_left_to_be_run_by_enter(self) -> None:
        assert read_pasted(TABLES, "$ info block") == Pasted((), "info block", is_changed=True)

    def test_the_first_line_continues_what_was_typed(self) -> None:
        pasted = read_pasted(TABLES, "tcp:a:4444\nstop\nco", "(qemu) migrate -d ")
        assert pasted == as_it_stands("migrate -d tcp:a:4444\nstop\nco")

    def test_a_text_does_not(self) -> None:
        assert read_pasted(TABLES, "> stop\nDear list,\n", "migrate ").lines == ("stop",)
        assert read_pasted(TABLES, "(qemu) stop\n", "foo") == Pasted(("stop",))

    def test_the_unfinished_last_command_is_left_to_be_edited(self) -> None:
        assert read_pasted(TABLES, "> stop\n> cont").tail == "cont"
        assert read_pasted(TABLES, "> stop\nDear list,").tail == ""


def test_a_shell_decides_nothing_here() -> None:
    for line in (
        'virsh qemu-monitor-command vm --hmp "print $((1 + 1))"',
        'virsh qemu-monitor-command vm \'{"execute": "stop"}\'',
        "echo stop | socat - unix:a; echo cont | socat - unix:a",
        'echo \'{"execute": "stop"}\' | socat - unix:a',
        "echo stop | tee log",
        "cat file | socat - unix:a",
    ):
        pasted = read(line, "> info block")
        assert pasted.lines == ("info block",), line
        assert re.sub(" +", " ", pasted.left_out[0].text) == line
