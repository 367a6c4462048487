"""What the guardian does in states of QEMU that last for a moment only, or that a real one is seldom in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qmon.remote.migration.recovery import guarding
from qmon.remote.migration.recovery.guarding import GoneError, Qmp, bring_back
from tests.support.waiting import PATIENCE

ID = "7c7b2f6e-0000-4000-8000-000000000001"
RECORD = {"id": ID, "phase": "copying", "capabilities": {"events": False}, "parameters": {"max-bandwidth": 5}}


class Qemu:
    """The end of a QMP connection that answers by a table; a list's items are answered in turn.

    ``hangs`` holds back every answer in band until a ``yank`` comes.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "qom-get": json.dumps(RECORD),
            "query-migrate": {"status": "active"},
            "query-status": {"status": "running"},
            "query-jobs": [],
            "query-named-block-nodes": [],
            "query-block-exports": [],
            "query-yank": [],
            **{name.replace("_", "-"): answer for name, answer in answers.items()},
        }
        self.asked: list[str] = []
        self.hangs = False
        self.write: Callable[[dict[str, Any]], bytes] = lambda answer: json.dumps(answer).encode() + b"\r\n"
        self.received = b""
        self._held: list[bytes] = []
        self.ours, self.socket = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        unread = b""
        while data := self.socket.recv(65536):
            self.received += data
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                if line.startswith(b"{") and not line.endswith(b"\xff"):
                    self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        name = message.get("exec-oob") or message["execute"]
        self.asked.append(" ".join([name, *(str(each) for each in _values(message.get("arguments")))]))
        answer = self._answer(name)
        if name == "migrate_cancel":
            self.answers["query-migrate"] = [{"status": "cancelling"}, {"status": "cancelled"}]
        told = self.write({"return": answer, "id": message["id"]})
        if self.hangs and "execute" in message:
            self._held.append(told)
            return
        self.socket.sendall(told)
        if name == "yank":
            self.hangs = False
            self.socket.sendall(b"".join(self._held))

    def _answer(self, name: str) -> Any:
        answer = self.answers.get(name, {})
        if isinstance(answer, list) and name == "query-migrate":
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer

    def did(self) -> list[str]:
        """What it was asked that changes something."""
        return [each for each in self.asked if not each.startswith(("query-", "qom-get"))]

    def close(self) -> None:
        self.ours.close()
        self._thread.join()
        self.socket.close()


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each)
    elif value is not None:
        yield value


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sat out takes a moment, and what ends by itself may take long on a busy machine."""
    monkeypatch.setattr(guarding, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(guarding, "CONTINUED_SECONDS", PATIENCE)
    monkeypatch.setattr(guarding, "DEVICE_SECONDS", 0.3)
    monkeypatch.setattr(guarding, "GIVE_UP_SECONDS", PATIENCE)


@pytest.fixture
def make() -> Iterator[Callable[..., Qemu]]:
    made: list[Qemu] = []

    def start(**answers: Any) -> Qemu:
        made.append(Qemu(**answers))
        return made[-1]

    yield start
    for qemu in made:
        qemu.close()


Make = Callable[..., Qemu]
RESTORED = ["migrate-set-capabilities events False", "migrate-set-parameters 5", "object-del qmon-migration"]


def act(qemu: Qemu, *descriptors: str) -> str:
    return bring_back(Qmp(qemu.ours, takes_oob=True), ID, list(descriptors))


def test_it_begins_behind_what_the_console_has_half_written_and_half_read(make: Make) -> None:
    qemu = make()
    qemu.ours.sendall(b'{"execute": "migra')
    qemu.socket.sendall(b'": 5}, "id": "of the console"}\r\n{"event": "STOP"}\r\n')
    assert act(qemu, "qmon-memory").endswith("as before (running)")
    assert qemu.received.startswith(b'{"execute": "migra\xff\n')
    assert qemu.did() == ["migrate_cancel", "closefd qmon-memory", *RESTORED]


def test_it_reads_messages_of_several_lines(make: Make) -> None:
    qemu = make()
    qemu.write = lambda answer: json.dumps(answer, indent=4).encode() + b"\n"
    qemu.socket.sendall(b'    "id": "of the console"\n}\n')
    assert act(qemu).endswith("as before (running)")


@pytest.mark.parametrize("text", [json.dumps({**RECORD, "id": "another"}), "no JSON", "[]"])
def test_without_a_record_of_its_migration_it_does_nothing(make: Make, text: str) -> None:
    qemu = make(qom_get=text)
    assert (act(qemu), qemu.did()) == ("", [])


CONTINUED = json.dumps({**RECORD, "phase": "switching"})


@pytest.mark.parametrize(
    "told",
    [
        [{"status": "device"}],
        [{"status": "device"}, {"status": "completed"}],
        [{"status": "pre-switchover"}, {"status": "pre-switchover"}, {"status": "device"}],
        [{"status": "completed"}],
    ],
)
def test_behind_migrate_continue_it_does_nothing(make: Make, told: list[dict[str, str]]) -> None:
    qemu = make(qom_get=CONTINUED, query_migrate=told, query_status={"status": "finish-migrate"})
    assert "nothing was taken back" in act(qemu)
    assert qemu.did() == []


def test_a_migrate_continue_that_was_never_sent_is_called_off(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarding, "CONTINUED_SECONDS", 0.2)
    qemu = make(qom_get=CONTINUED, query_migrate={"status": "pre-switchover"})
    act(qemu)
    assert qemu.did() == ["migrate_cancel", *RESTORED]


def test_a_guest_that_came_back_by_itself_is_cleaned_up(make: Make) -> None:
    qemu = make(qom_get=CONTINUED, query_migrate=[{"status": "device"}, {"status": "failed"}])
    act(qemu)
    assert qemu.did() == ["migrate_cancel", *RESTORED]


def test_the_migration_by_which_the_guest_once_came_is_none_of_its_own(make: Make) -> None:
    qemu = make(query_migrate={"status": "completed"})
    act(qemu)
    assert qemu.did() == RESTORED


def test_what_is_ours_is_removed_and_nothing_else(make: Make) -> None:
    jobs = [{"id": "qmon-m0", "status": "concluded"}, {"id": "backup", "status": "running"}]
    nodes = [{"node-name": "qmon-t0"}, {"node-name": "d0"}]
    qemu = make(query_jobs=jobs, query_named_block_nodes=nodes, query_block_exports=[{"id": "qmon-c0"}])
    dismissed = threading.Timer(0.1, lambda: qemu.answers.update({"query-jobs": jobs[1:]}))
    dismissed.start()
    act(qemu)
    dismissed.join()
    done = list(dict.fromkeys(qemu.did()))
    assert done == [
        "migrate_cancel",
        "job-dismiss qmon-m0",
        "blockdev-del qmon-t0",
        "nbd-server-stop",
        *RESTORED,
    ]


def test_a_qemu_that_hangs_is_freed_but_its_memory_s_line_is_not_cut(make: Make) -> None:
    """Whether the guest is still here is not known before it answers."""
    instances = [
        {"type": "block-node", "node-name": "d9"},
        {"type": "migration"},
        {"type": "block-node", "node-name": "qmon-t0"},
    ]
    qemu = make(query_yank=instances)
    qemu.hangs = True
    assert act(qemu).endswith("as before (running)")
    assert [each for each in qemu.did() if each.startswith("yank")] == ["yank block-node qmon-t0"]


def test_a_qemu_that_stays_silent_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(guarding, "GIVE_UP_SECONDS", 1.5)
    qemu = make()
    qemu.hangs = True
    begun = time.monotonic()
    with pytest.raises(GoneError, match="does not answer"):
        act(qemu)
    assert time.monotonic() - begun >= 1.0
    assert qemu.did() == []


def test_a_qemu_that_has_ended_is_left(make: Make) -> None:
    qemu = make()
    qemu.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GoneError):
        act(qemu)


def test_a_console_that_ends_with_its_qemu_leaves_no_guest_to_bring_back(make: Make) -> None:
    qemu = make()
    reading, writing = os.pipe()
    os.close(writing)
    qemu.socket.shutdown(socket.SHUT_RDWR)
    assert not guarding.has_died(reading, qemu.ours)
    os.close(reading)


def test_it_acts_for_a_console_that_has_died_before_it_was_ready(make: Make) -> None:
    qemu = make()
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guarding.__file__, str(qemu.ours.fileno()), "unix:a.qmp"],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        pass_fds=[qemu.ours.fileno()],
    )
    os.close(writing)
    told = json.dumps({"id": ID, "descriptors": [], "oob": True}).encode() + b"\n"
    _, said = process.communicate(told, timeout=PATIENCE)
    assert said.endswith(b"the guest is here as before (running)\n"), said
