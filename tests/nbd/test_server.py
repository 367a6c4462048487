"""The server's promises: exports come and go, requests wait at gates, nobody hangs and no thread is left."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.host.sockets import listen
from qmon.nbd.constants import CLIENT_FLAGS, Command, Error, Option, OptionReply
from qmon.nbd.limits import LIMITS, Limits
from qmon.nbd.server import Export, NbdServer
from qmon.notation.address import InetAddress, UnixAddress
from tests.support.memory import MemoryDisk, data_threads
from tests.support.nbd_client import NbdClient, Reply, go_data, option, request
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE, eventually

GOODBYE = 0.25
"""Seconds that the server waits for the clients of an export that is to be removed."""


def until_hung_up(ask: Callable[[], int]) -> set[int]:
    """Ask over and over until the server closes the connection; return what it answered."""
    answers = set()
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            answers.add(ask())
    except ConnectionError:
        return answers
    raise AssertionError("the server goes on answering")


class Serving:
    """A running server on a Unix socket, and ways to reach it."""

    def __init__(self, path: Path, *, max_connections: int = 0, limits: Limits = LIMITS) -> None:
        self.path = path
        self.changes = 0
        self.server = NbdServer(
            listen(UnixAddress(str(path))),
            max_connections=max_connections,
            on_change=self._count,
            limits=limits,
        )
        self.server.start()

    def _count(self) -> None:
        self.changes += 1

    def add(self, name: str = "d0", *, writable: bool = True) -> MemoryDisk:
        disk = MemoryDisk()
        self.server.add(Export(name, disk, writable))
        return disk

    def connect(self) -> NbdClient:
        return NbdClient(self.path)


@pytest.fixture
def serving(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serving]:
    """A server; a test that is parametrized gives it other limits."""
    serving = Serving(tmp_path / "nbd.sock", limits=getattr(request, "param", LIMITS))
    yield serving
    started = time.monotonic()
    serving.server.stop()
    assert time.monotonic() - started < PATIENCE
    assert data_threads() == []
    assert not serving.path.exists()


def test_tcp_clients_are_served(tmp_path: Path) -> None:
    listener = listen(InetAddress("127.0.0.1", "0"))
    address = listener.getsockname()
    tcp = NbdServer(listener)
    tcp.add(Export("d0", MemoryDisk(), writable=True))
    tcp.start()
    with NbdClient(socket.create_connection(address)).go("d0") as client:
        assert client.ask(Command.WRITE, 0, data=b"x" * 512).error == 0
        assert client.ask(Command.READ, 0, 512).data == b"x" * 512
        tcp.stop()
        assert client.at_end()
    assert data_threads() == []


def test_exports_come_and_go(serving: Serving) -> None:
    serving.add("d0")
    serving.add("d1")
    assert list(serving.server.exports()) == ["d0", "d1"]
    with pytest.raises(CommandError, match=r"^NBD server already has export named 'd0'$"):
        serving.add("d0")
    serving.server.remove("d0", force=False)
    assert list(serving.server.exports()) == ["d1"]
    with pytest.raises(CommandError, match=r"^Export 'd0' is not found$"):
        serving.server.remove("d0", force=True)
    with pytest.raises(CommandError, match="too long"):
        serving.add("x" * 5000)


def test_an_export_in_use_stays_unless_forced(serving: Serving) -> None:
    serving.add("d0")
    with serving.connect().go("d0") as client, serving.connect().go("d0") as other:
        assert serving.server.clients("d0") == 2
        with pytest.raises(CommandError, match=r"^export 'd0' still in use$"):
            serving.server.remove("d0", force=False)
        assert client.ask(Command.FLUSH) == Reply(0, 0)
        serving.server.remove("d0", force=True)
        assert data_threads() == ["nbd accept"]
        assert client.at_end()
        assert other.at_end()
    with serving.connect() as late:
        late.greet()
        assert late.option(Option.GO, go_data("d0"))[-1][0] == OptionReply.ERR_UNKNOWN


@pytest.mark.parametrize("last", ["goodbye", "goodbye and close", "close", "write and close"])
def test_a_client_that_has_left_keeps_no_export(serving: Serving, last: str) -> None:
    for _ in range(200):
        serving.add("d0")
        with serving.connect().go("d0") as client:
            if "goodbye" in last:
                client.send(request(Command.DISC))
            elif "write" in last:
                client.send(request(Command.WRITE, data=bytes(64 << 10)))
            if "close" in last:
                client.socket.close()
            serving.server.remove("d0", force=False)


def test_a_goodbye_that_nobody_has_read_yet_counts(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = serving.add("d0")
    reached, goes_on = threading.Event(), threading.Event()

    def flush() -> None:
        reached.set()
        goes_on.wait(PATIENCE)

    monkeypatch.setattr(disk.memory, "flush", flush)
    with serving.connect().go("d0") as client:
        client.send(request(Command.FLUSH))
        assert reached.wait(PATIENCE)
        client.send(request(Command.DISC))
        threading.Timer(3 * GOODBYE, goes_on.set).start()
        serving.server.remove("d0", force=False)


def test_a_client_that_leaves_frees_its_export(serving: Serving) -> None:
    serving.add("d0")
    with serving.connect().go("d0") as client:
        assert serving.server.clients("d0") == 1
        client.send(request(Command.DISC))
        assert client.at_end()
    eventually(lambda: serving.server.clients("d0") == 0, "it is not counted any more")
    serving.server.remove("d0", force=False)


def test_changes_are_told(serving: Serving) -> None:
    serving.add("d0")
    assert serving.changes == 1
    with serving.connect().go("d0"):
        assert serving.changes == 2
    eventually(lambda: serving.changes == 3, "the third change")
    serving.server.remove("d0", force=False)
    assert serving.changes == 4


def test_one_client_sees_what_another_wrote(serving: Serving) -> None:
    serving.add("d0")
    with serving.connect().go("d0") as one, serving.connect().go("d0") as two:
        for number in range(50):
            data = bytes([number]) * 512
            assert one.ask(Command.WRITE, 0, data=data).error == 0
            assert two.ask(Command.READ, 0, 512).data == data


def test_clients_past_the_limit_wait_for_one_to_leave(tmp_path: Path) -> None:
    serving = Serving(tmp_path / "nbd.sock", max_connections=1)
    serving.add("d0")
    with serving.connect() as first, serving.connect() as second:
        first.receive(18)
        second.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.receive(1)
        second.socket.settimeout(PATIENCE)
        first.socket.close()
        second.go("d0")
        serving.server.stop()
    assert data_threads() == []


# Gates


def test_requests_wait_at_a_closed_gate_and_go_on_when_it_opens(serving: Serving) -> None:
    disk = serving.add("d0")
    disk.gate.close("stopped")
    with serving.connect().go("d0") as client:
        client.send(
            request(Command.WRITE, 0, data=b"x" * 512, cookie=1), request(Command.READ, 0, 512, cookie=2)
        )
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.receive(1)
        assert not disk.memory.calls
        client.socket.settimeout(PATIENCE)
        disk.gate.open("stopped")
        assert client.reply() == Reply(1, 0)
        assert client.reply(512) == Reply(2, 0, b"x" * 512)


def test_a_gate_closes_while_clients_are_idle_or_half_way_through_a_request(serving: Serving) -> None:
    disk = serving.add("d0")
    with serving.connect().go("d0"), serving.connect().go("d0") as half:
        half.send(request(Command.WRITE, 0, data=bytes(4096))[:2000])
        time.sleep(0.05)
        assert disk.gate.close("stopped", timeout=PATIENCE)
        disk.gate.open("stopped")


def test_the_node_is_looked_up_anew_behind_the_gate(serving: Serving) -> None:
    disk = serving.add("d0")
    with serving.connect().go("d0") as client:
        assert client.ask(Command.WRITE, 0, data=b"x" * 512).error == 0
        disk.gate.close("resize")
        disk.memory = MemoryDisk(4096).memory
        disk.gate.open("resize")
        assert client.ask(Command.READ, 0, 512).data == bytes(512)
        assert client.ask(Command.READ, 4096, 512).error == Error.EINVAL


PATIENT = Limits(linger_seconds=PATIENCE, linger_total_seconds=PATIENCE)


@pytest.mark.parametrize("serving", [PATIENT], indirect=True, ids=["patient"])
@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
def test_requests_that_wait_when_the_disk_moves_are_turned_away(serving: Serving, structured: bool) -> None:
    disk = serving.add("d0")
    disk.gate.close("handover")
    with serving.connect().go("d0", structured=structured) as client:
        client.send(
            request(Command.WRITE, 0, data=b"x" * 512, cookie=1),
            request(Command.READ, 0, 512, cookie=2),
            request(Command.FLUSH, cookie=3),
        )
        time.sleep(0.05)
        disk.gate.shut()
        assert [client.reply() for _ in range(3)] == [Reply(n, Error.ESHUTDOWN) for n in (1, 2, 3)]
        # One that comes later, and a write longer than the buffer.
        client.send(request(Command.READ, 0, 512, cookie=4), request(Command.WRITE, 0, data=bytes(2 << 20)))
        assert client.reply() == Reply(4, Error.ESHUTDOWN)
        assert client.reply() == Reply(0, Error.ESHUTDOWN)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.at_end()
    assert not disk.memory.calls


def test_a_client_that_asks_no_more_of_a_moved_disk_is_hung_up_on(serving: Serving) -> None:
    disk = serving.add("d0")
    with serving.connect().go("d0") as client:
        disk.gate.shut()
        assert client.ask(Command.READ, 0, 512).error == Error.ESHUTDOWN
        assert client.at_end()


@pytest.mark.parametrize("serving", [Limits(linger_total_seconds=0.3)], indirect=True, ids=["0.3 s"])
def test_a_client_that_keeps_asking_for_a_moved_disk_is_hung_up_on(serving: Serving) -> None:
    disk = serving.add("d0")
    with serving.connect().go("d0") as client:
        disk.gate.shut()
        assert until_hung_up(lambda: client.ask(Command.READ, 0, 512).error) == {Error.ESHUTDOWN}


def test_dropping_ends_idle_connections_of_a_moved_disk(serving: Serving) -> None:
    disk, other = serving.add("d0"), serving.add("d1")
    with serving.connect().go("d0") as idle, serving.connect().go("d1") as stays:
        disk.gate.shut()
        serving.server.drop("d0")
        assert idle.at_end()
        assert stays.ask(Command.FLUSH).error == 0
    assert other.memory.calls["flush"] == 1
    with serving.connect() as late:
        late.greet()
        assert late.option(Option.GO, go_data("d0"))[-1][0] == OptionReply.ERR_SHUTDOWN
    disk.gate.reopen()
    with serving.connect().go("d0") as back:
        assert back.ask(Command.FLUSH).error == 0


def test_dropping_answers_what_waits_at_the_gate_first(serving: Serving) -> None:
    disk = serving.add("d0")
    disk.gate.close("handover")
    with serving.connect().go("d0") as client:
        client.send(request(Command.FLUSH, cookie=1))
        time.sleep(0.05)
        disk.gate.shut()
        serving.server.drop("d0")
        assert client.reply() == Reply(1, Error.ESHUTDOWN)
        assert client.at_end()


def test_stopping_does_not_wait_for_a_closed_gate(serving: Serving) -> None:
    disk = serving.add("d0")
    disk.gate.close("stopped")
    with serving.connect().go("d0") as client:
        client.send(request(Command.FLUSH))
        time.sleep(0.05)
        started = time.monotonic()
        serving.server.stop()
        assert time.monotonic() - started < PATIENCE
        assert data_threads() == []
        assert client.at_end()
    assert not disk.memory.calls


def test_a_client_that_leaves_while_its_requests_wait_is_forgotten(serving: Serving) -> None:
    disk = serving.add("d0")
    disk.gate.close("stopped")
    with serving.connect().go("d0") as client:
        client.send(request(Command.WRITE, 0, data=bytes(512)))
        time.sleep(0.05)
    eventually(lambda: serving.server.clients("d0") == 0, "it is not counted any more")
    serving.server.remove("d0", force=False)


# Ends


def test_stopping_twice_and_before_the_start_is_right(tmp_path: Path) -> None:
    never_started = NbdServer(listen(UnixAddress(str(tmp_path / "a.sock"))))
    never_started.stop()
    never_started.stop()
    assert data_threads() == []


def test_stopping_ends_clients_in_every_phase(serving: Serving) -> None:
    serving.add("d0")
    with (
        serving.connect() as silent,
        serving.connect() as greeted,
        serving.connect().go("d0") as idle,
        serving.connect().go("d0") as deaf,
    ):
        greeted.greet()
        deaf.send(*[request(Command.READ, 0, 1 << 20)] * 20)
        eventually(
            lambda: serving.server.clients("d0") == 2 and "nbd worker 1" in data_threads(), "both are served"
        )
        started = time.monotonic()
        serving.server.stop()
        assert time.monotonic() - started < PATIENCE
        assert idle.at_end()
        assert silent.receive(18)
        assert silent.at_end()
    assert data_threads() == []


@pytest.mark.parametrize("serving", [Limits(handshake_seconds=0.3)], indirect=True, ids=["0.3 s"])
def test_a_handshake_that_takes_too_long_is_cut_off(serving: Serving) -> None:
    serving.add("d0")
    with serving.connect() as silent, serving.connect() as slow:

        def ask() -> int:
            if not asked:
                slow.greet()
            asked.append(slow.option(Option.LIST)[-1][0])
            return asked[-1]

        asked: list[int] = []
        assert until_hung_up(ask) <= {OptionReply.ACK}
        assert silent.receive(18)
        assert silent.at_end()


@pytest.mark.parametrize("serving", [Limits(handshake_seconds=0.2)], indirect=True, ids=["0.2 s"])
def test_a_client_past_its_handshake_may_be_silent(serving: Serving) -> None:
    serving.add("d0")
    with contextlib.ExitStack() as stack:
        client = None
        while client is None:
            with contextlib.suppress(ConnectionError):  # the machine was too slow for this limit
                client = stack.enter_context(serving.connect()).go("d0")
        time.sleep(0.4)
        assert client.ask(Command.FLUSH).error == 0


def test_a_failing_disk_is_told_to_the_log_once(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    disk = serving.add("d0")
    with serving.connect().go("d0") as client:
        disk.memory.failures = {"read": errno.EIO}
        for _ in range(3):
            assert client.ask(Command.READ, 4096, 512).error == Error.EIO
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["export 'd0': READ at 4096 of 512 bytes: Input/output error"]


# Hostile clients

PARTS = st.one_of(
    st.binary(max_size=300),
    st.builds(option, st.integers(0, 12), st.binary(max_size=100)),
    st.just(CLIENT_FLAGS.pack(3)),
    st.just(option(Option.GO, go_data("d0"))),
    st.builds(
        request,
        st.integers(0, 9),
        st.integers(0, (1 << 64) - 1),
        st.integers(0, (1 << 32) - 1),
        flags=st.integers(0, 0xFFFF),
    ),
)


@given(started=st.booleans(), parts=st.lists(PARTS, max_size=8))
@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_sent_the_server_serves_the_next_client(
    serving: Serving, started: bool, parts: list[bytes]
) -> None:
    if "d0" not in serving.server.exports():
        serving.add("d0")
    with serving.connect() as hostile:
        try:
            if started:
                hostile.go("d0")
            hostile.send(*parts)
            hostile.socket.shutdown(socket.SHUT_WR)
            while hostile.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
    with serving.connect().go("d0") as client:
        assert client.ask(Command.READ, 0, 512).error == 0
    eventually(lambda: data_threads() == ["nbd accept"], "no thread is left")


def test_many_clients_come_and_go_at_once(serving: Serving) -> None:
    disk = serving.add("d0")
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(5):
                with serving.connect().go("d0", structured=chance.random() < 0.5) as client:
                    for _ in range(20):
                        offset = seed * 4096
                        data = chance.randbytes(4096)
                        assert client.ask(Command.WRITE, offset, data=data).error == 0
                        assert client.ask(Command.READ, offset, 4096).data == data
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert disk.gate.close("pause", timeout=PATIENCE)
        time.sleep(0.002)
        disk.gate.open("pause")
    for thread in threads:
        thread.join(30)
    assert problems == []


def test_nobody_touches_a_disk_once_its_export_is_gone(serving: Serving) -> None:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                with serving.connect().go("d0") as client:
                    client.ask(Command.READ, 0, 512)
                    client.ask(Command.READ, 0, 512)
            except OSError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            disk = serving.add("d0")
            while not disk.memory.calls["read"]:
                time.sleep(0.002)
            serving.server.remove("d0", force=True)
            disk.memory.failures = {"read": errno.EIO}
            reads = disk.memory.calls["read"]
            time.sleep(0.002)
            assert disk.memory.calls["read"] == reads
    finally:
        done.set()
        for thread in threads:
            thread.join()
