"""Character devices on the embedded machine: their QMP commands, and what comes out at their other ends."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.chardev.ringbuf import RingbufChardev
from qmon.chardev.stream import UNSENT_MAX, Stream
from qmon.notation.telnet import TelnetDecoder, encode
from tests.support.embedded_lab import EmbeddedLab, LabMachine, Play
from tests.support.waiting import connected


async def add(machine: LabMachine, id: str, kind: str, **data: Any) -> Any:
    return await machine.qmp("chardev-add", id=id, backend={"type": kind, "data": data})


async def echo(stream: Stream) -> None:
    """A front end that sends back what it is sent."""
    while data := await stream.read():
        stream.write(data)


def unix(path: Path) -> dict[str, Any]:
    return {"type": "unix", "data": {"path": str(path)}}


def test_they_are_made_listed_changed_and_removed(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "a", "null")
        await add(machine, "b", "ringbuf", size=4)
        assert {each["label"]: each["filename"] for each in await machine.qmp("query-chardev")} == {
            "a": "null",
            "b": "ringbuf",
        }
        await machine.qmp("chardev-change", id="a", backend={"type": "memory", "data": {}})
        await machine.qmp("chardev-remove", id="b")
        (left,) = await machine.qmp("query-chardev")
        assert left == {"label": "a", "filename": "memory", "frontend-open": False}

    play(scene)


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ({}, "Parameter 'backend.type' is missing"),
        ({"type": "nothing"}, "Parameter 'type' does not accept value 'nothing'"),
        ({"type": "null"}, "Parameter 'backend.data' is missing"),
        ({"type": "null", "data": {"x": 1}}, "Parameter 'backend.data.x' is unexpected"),
        ({"type": "file", "data": {}}, "Parameter 'backend.data.out' is missing"),
        (
            {"type": "file", "data": {"out": 5}},
            "Invalid parameter type for 'backend.data.out', expected: string",
        ),
        ({"type": "socket", "data": {}}, "Parameter 'backend.data.addr' is missing"),
        (
            {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "x"}}}},
            "Parameter 'backend.data.addr.data.port' is missing",
        ),
        (
            {"type": "ringbuf", "data": {"size": 3}},
            "Failed to add chardev 'c': size of ringbuf chardev must be power of two",
        ),
        (
            {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "n"}}}},
            "Failed to add chardev 'c': File descriptor named 'n' has not been found",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_made_is_refused_and_leaves_nothing(
    play: Play, backend: dict[str, Any], said: str
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        assert await machine.qmp_error("chardev-add", id="c", backend=backend) == said
        assert await machine.qmp("query-chardev") == []

    play(scene)


def test_an_image_in_use_is_not_written_to(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        image = lab.folder / "d0.img"
        before = image.read_bytes()
        for kind, data in (("file", {"out": str(image)}), ("null", {"logfile": str(image)})):
            said = await machine.qmp_error("chardev-add", id="c", backend={"type": kind, "data": data})
            assert "it is a disk image in use" in said
        assert image.read_bytes() == before

    play(scene)


def test_a_file_is_emptied_or_appended_to_and_read_from(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        (tmp_path / "in").write_bytes(b"what was there")
        (tmp_path / "out").write_bytes(b"old ")
        for id, append, held in (("a", True, b"old what was there"), ("b", False, b"what was there")):
            await add(
                machine,
                id,
                "file",
                **{"in": str(tmp_path / "in"), "out": str(tmp_path / "out"), "append": append},
            )
            done = asyncio.Event()

            async def serve(stream: Stream, done: asyncio.Event = done) -> None:
                await echo(stream)
                done.set()

            machine.embedded.chardevs.get(id).attach(serve)
            await asyncio.wait_for(done.wait(), 10)
            assert (tmp_path / "out").read_bytes() == held

    play(scene)


def test_what_is_written_is_logged(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "c", "socket", addr=unix(tmp_path / "c"), logfile=str(tmp_path / "log"))
        machine.embedded.chardevs.get("c").attach(echo)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "c")
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"hello"
        assert (tmp_path / "log").read_bytes() == b"hello"
        writer.close()

    play(scene)


def test_without_a_front_end_one_client_is_taken_and_kept_until_it_goes(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "c", "socket", addr=unix(tmp_path / "c"))

        async def filename() -> str:
            (one,) = await machine.qmp("query-chardev")
            return str(one["filename"])

        name = f"unix:{tmp_path / 'c'},server=on"
        assert await filename() == f"disconnected:{name}"
        with connected(tmp_path / "c"):
            await machine.until(filename, name)
        await machine.until(filename, f"disconnected:{name}")
        await machine.qmp("chardev-remove", id="c")
        assert not (tmp_path / "c").exists()

    play(scene)


def test_a_client_that_comes_while_the_server_ends_is_no_fault(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        path = tmp_path / "s"
        await add(machine, "s", "socket", addr=unix(path), server=True, wait=False)
        await asyncio.sleep(0.05)  # it waits for a client
        with connected(path):
            await asyncio.sleep(0)  # the loop has seen the client, and comes to it behind this
            await machine.qmp("chardev-remove", id="s")
            await asyncio.sleep(0.05)
        assert faults == []

    play(scene)


def test_who_reads_nothing_is_given_up_at_last(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "c", "socket", addr=unix(tmp_path / "c"))
        written = 0

        async def serve(stream: Stream) -> None:
            nonlocal written
            while not stream.closed:
                stream.write(bytes(1 << 16))
                written += 1 << 16
            ended.set()

        ended = asyncio.Event()
        machine.embedded.chardevs.get("c").attach(serve)
        with connected(tmp_path / "c"):
            await asyncio.wait_for(ended.wait(), 10)
        assert UNSENT_MAX < written < UNSENT_MAX + (4 << 20)

    play(scene)


def test_datagrams_go_both_ways(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(10)
            remote = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(peer.getsockname()[1])}}
            await add(machine, "u", "udp", remote=remote)

            async def serve(stream: Stream) -> None:
                stream.write(b"here")
                await echo(stream)

            machine.embedded.chardevs.get("u").attach(serve)
            data, sender = await asyncio.to_thread(peer.recvfrom, 100)
            assert data == b"here"
            peer.sendto(b"", sender)
            peer.sendto(b"there", sender)
            assert await asyncio.to_thread(peer.recv, 100) == b"there"

    play(scene)


def test_a_ring_buffer_holds_bytes(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "r", "ringbuf", size=8)
        data = bytes(range(250, 256))
        await machine.qmp("ringbuf-write", device="r", data=base64.b64encode(data).decode(), format="base64")
        assert (
            base64.b64decode(await machine.qmp("ringbuf-read", device="r", size=6, format="base64")) == data
        )
        await machine.qmp("ringbuf-write", device="r", data="é")
        assert await machine.qmp("ringbuf-read", device="r", size=8) == "é"
        for bad, said in (
            ({"device": "x", "size": 1}, "Device 'x' not found"),
            ({"device": "r", "size": 0}, "size must be greater than zero"),
            ({"device": "r", "size": 1, "format": "x"}, "Parameter 'format' does not accept value 'x'"),
        ):
            assert await machine.qmp_error("ringbuf-read", **bad) == said
        written = asyncio.Event()

        async def serve(stream: Stream) -> None:
            stream.write(b"last")
            written.set()

        machine.embedded.chardevs.get("r").attach(serve)
        await asyncio.wait_for(written.wait(), 10)
        assert await machine.qmp("ringbuf-read", device="r", size=8) == "last"

    play(scene)


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=30), st.integers(1, 30)), max_size=20))
def test_a_ring_buffer_keeps_the_last_bytes(steps: list[bytes | int]) -> None:
    ring = RingbufChardev("r", {"size": 16})
    model = b""
    for step in steps:
        if isinstance(step, bytes):
            ring.write(step)
            model = (model + step)[-16:]
        else:
            assert ring.read(step) == model[:step]
            model = model[step:]


TELNET = [b"\xff\xfd\x01", b"\xff\xfb\x1f", b"\xff\xfa\x18\x00xterm\xff\xf0", b"\xff\xf1", b"\xff\xf4"]


@given(st.lists(st.one_of(st.binary(max_size=10), st.sampled_from([*TELNET, None]))), st.integers(1, 7))
def test_telnet_s_commands_are_taken_out_wherever_it_is_cut(pieces: list[Any], size: int) -> None:
    sent, text, breaks = b"", b"", 0
    for piece in pieces:
        if piece is None:
            sent += b"\xff\xf3"
            breaks += 1
        elif piece in TELNET:
            sent += piece
        else:
            sent += encode(piece)
            text += piece
    decoder = TelnetDecoder()
    assert b"".join(decoder.feed(sent[at : at + size]) for at in range(0, len(sent), size)) == text
    assert decoder.breaks == breaks


def test_a_descriptor_that_a_client_hands_over_reaches_its_command(play: Play, tmp_path: Path) -> None:
    from qmon.hmp.fronts.socket_monitor import SocketMonitor
    from qmon.hmp.monitor import Monitor

    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "m", "socket", addr=unix(tmp_path / "m"))
        machine.embedded.chardevs.get("m").attach(SocketMonitor(Monitor(machine.embedded.registry)).serve)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            await asyncio.to_thread(client.connect, str(tmp_path / "m"))
            null = os.open(os.devnull, os.O_RDONLY)
            socket.send_fds(client, [b"getfd one\nclosefd one\ngetfd two\n"], [null])
            os.close(null)
            data = b""
            while data.count(b"(qemu) ") < 4:
                data += await asyncio.to_thread(client.recv, 4096)
        assert data.count(b"Error: ") == 1
        assert b"No file descriptor supplied via SCM_RIGHTS" in data

    play(scene)
