"""The guardian: the program that brings the guest back when the console dies in the middle of a migration.

``guardian.py`` runs it by its path; it needs nothing but the standard library, so that it starts at once. It
has a copy of the console's QMP socket, and the read end of a pipe that the console holds open. The pipe's end
without a word is the console's death. What the guardian asks then comes behind all that the console has sent.

It calls a migration off only while QEMU still has the guest: ``setup``, ``active``, ``pre-switchover``.
Behind ``migrate-continue`` it takes nothing back, because the destination may have the guest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time

OURS = "qmon-"
RECORD = "qmon-migration"
DONE = b"done\n"
READY = b"ready\n"

CAN_CALL_OFF = ("setup", "active", "pre-switchover")
OVER = ("none", "failed", "cancelled", "completed")

SILENT_SECONDS = 2.0
"""After this time without an answer the QEMU is stuck on a silent line, which is then cut."""
GIVE_UP_SECONDS = 30.0
DEVICE_SECONDS = 10.0
"""How long it waits for a QEMU that was told to go on; a new console waits meanwhile."""
CONTINUED_SECONDS = 1.0
"""How long ``pre-switchover`` may be told behind ``migrate-continue``, which another thread carries out."""
POLL_SECONDS = 0.02
_MESSAGE_MAX = 64 << 20


class RefusedError(Exception):
    """QEMU has answered with an error."""


class GoneError(Exception):
    """QEMU does not answer, or has ended."""


class Qmp:
    """A QMP connection that another program has used, and left in any state."""

    def __init__(self, sock: socket.socket, *, takes_oob: bool) -> None:
        self._sock = sock
        self._takes_oob = takes_oob
        self._number = 0
        self._unread = b""
        self._pretty: list[bytes] = []
        self._answers: dict[str, dict[str, object]] = {}
        self.cuts_migration = False
        """Whether a silent QEMU's line for the memory may be cut, too."""

    def resynchronise(self) -> None:
        """End a message that was sent in part: 0xFF resets QEMU's reader (QMP specification, section 2.6)."""
        self._write(b"\xff\n")

    def ask(self, command: str, arguments: object = None) -> object:
        """Return a command's result. Cuts silent lines. Raises RefusedError, GoneError."""
        number = self._send("execute", command, arguments)
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            if self._wait_for(number, SILENT_SECONDS):
                return self._result(number)
            self.cut()
        raise GoneError("the QEMU does not answer")

    def try_(self, command: str, arguments: object = None) -> None:
        """Run a command that may have nothing to do. Raises GoneError."""
        with contextlib.suppress(RefusedError):
            self.ask(command, arguments)

    def cut(self) -> None:
        """Cut the QEMU's lines of ours, out of band."""
        if not self._takes_oob:
            return
        number = self._send("exec-oob", "query-yank", None)
        if not self._wait_for(number, SILENT_SECONDS):
            return
        try:
            instances = self._result(number)
        except RefusedError:  # it has no yank
            return
        for each in instances if isinstance(instances, list) else ():
            is_disk = str(each.get("node-name", "")).startswith(OURS)
            if is_disk or (self.cuts_migration and each.get("type") == "migration"):
                number = self._send("exec-oob", "yank", {"instances": [each]})
                self._wait_for(number, SILENT_SECONDS)

    def _send(self, how: str, command: str, arguments: object) -> str:
        self._number += 1
        name = f"qmon-guardian-{self._number}"
        message = {how: command, "id": name, **({"arguments": arguments} if arguments else {})}
        self._write(json.dumps(message).encode() + b"\n")
        return name

    def _result(self, name: str) -> object:
        answer = self._answers.pop(name)
        if "error" in answer:
            raise RefusedError(str(answer["error"]))
        return answer.get("return")

    def _write(self, data: bytes) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        try:
            while data:
                if not self._poll(select.POLLOUT, deadline - time.monotonic()):
                    raise GoneError("the QEMU reads nothing")
                data = data[self._sock.send(data) :]
        except OSError as error:
            raise GoneError(error.strerror) from error

    def _wait_for(self, name: str, seconds: float) -> bool:
        """Read until an answer is there; return whether it is. Other answers are kept, the rest is not."""
        deadline = time.monotonic() + seconds
        while name not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll(select.POLLIN, left):
                return False
            try:
                data = self._sock.recv(1 << 16)
            except OSError as error:
                raise GoneError(error.strerror) from error
            if not data or len(self._unread) > _MESSAGE_MAX:
                raise GoneError("the QEMU has ended")
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._take(line.rstrip())
        return True

    def _take(self, line: bytes) -> None:
        """Take a line: a message, or a part of one (``-qmp-pretty``, or the console has read its begin)."""
        if line == b"{" or self._pretty:
            self._pretty.append(line)
            if line != b"}":
                return
            line, self._pretty = b"".join(self._pretty), []
        with contextlib.suppress(ValueError):  # the end of a message whose begin the console has read
            message = json.loads(line)
            if isinstance(message, dict) and str(message.get("id", "")).startswith("qmon-guardian-"):
                self._answers[message["id"]] = message

    def _poll(self, what: int, seconds: float) -> bool:
        watch = select.poll()
        watch.register(self._sock, what)
        return bool(watch.poll(max(seconds, 0) * 1000))


def bring_back(qmp: Qmp, migration: str, descriptors: list[str]) -> str:
    """Call the migration off if that is possible, and take back what was changed; return a line for a person.

    ``descriptors`` are the names of descriptors that the QEMU may hold. Raises GoneError, RefusedError.
    """
    qmp.resynchronise()
    record = read_record(qmp, migration)
    if record is None:
        return ""
    if not call_off(qmp, was_continued=record.get("phase") == "switching"):
        return (
            "the guest may be at the destination: nothing was taken back."
            " start 'qmon -connect' on either side's QEMU: it finishes the migration, or says what to decide"
        )
    clean(qmp, descriptors, has_server=record.get("server") is True)
    restore(qmp, record)
    status = qmp.ask("query-status")
    state = status.get("status") if isinstance(status, dict) else None
    return f"the migration was called off, and the guest is here as before ({state})"


def read_record(qmp: Qmp, migration: str) -> dict[str, object] | None:
    """Return what the console has recorded in the QEMU; None if nothing of this migration is left."""
    try:
        text = qmp.ask("qom-get", {"path": f"/objects/{RECORD}", "property": "identity"})
        record = json.loads(str(text))
    except (RefusedError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("id") == migration else None


def call_off(qmp: Qmp, *, was_continued: bool) -> bool:
    """Call the memory's migration off, unless QEMU was told to go on; return whether the guest stays here."""
    status = current(qmp)
    since = time.monotonic()
    while was_continued and status in CAN_CALL_OFF and time.monotonic() < since + CONTINUED_SECONDS:
        time.sleep(POLL_SECONDS)
        status = current(qmp)
    if status in CAN_CALL_OFF:
        qmp.cuts_migration = True
        qmp.try_("migrate_cancel")
    while status not in OVER and time.monotonic() < since + GIVE_UP_SECONDS:
        time.sleep(POLL_SECONDS)
        status = current(qmp)
        if status == "cancelling" and time.monotonic() > since + SILENT_SECONDS:
            qmp.cut()
        if status == "device" and time.monotonic() > since + DEVICE_SECONDS:
            break
    if status == "failed":
        qmp.try_("migrate_cancel")  # QEMU 7.2 leaves the line open otherwise, and the destination waits
    if status == "completed":  # before migrate-continue that is an earlier one
        return not was_continued and run_state(qmp) not in ("finish-migrate", "postmigrate")
    return status in OVER


def current(qmp: Qmp) -> str:
    found = qmp.ask("query-migrate")
    return str(found.get("status", "none")) if isinstance(found, dict) else "none"


def run_state(qmp: Qmp) -> str:
    found = qmp.ask("query-status")
    return str(found.get("status")) if isinstance(found, dict) else ""


def clean(qmp: Qmp, descriptors: list[str], *, has_server: bool) -> None:
    """End our jobs, and remove our nodes, NBD server and descriptors."""
    since = time.monotonic()
    while jobs := ours(qmp, "query-jobs", "id"):
        for each in jobs:
            if each.get("status") == "concluded":
                qmp.try_("job-dismiss", {"id": each["id"]})
            else:
                qmp.try_("block-job-cancel", {"device": each["id"], "force": True})
        if time.monotonic() > since + SILENT_SECONDS:
            qmp.cut()
        if time.monotonic() > since + GIVE_UP_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    for each in ours(qmp, "query-named-block-nodes", "node-name"):
        qmp.try_("blockdev-del", {"node-name": each["node-name"]})
    if has_server or ours(qmp, "query-block-exports", "id"):  # a server with exports of ours is ours
        qmp.try_("nbd-server-stop")
    for name in descriptors:
        qmp.try_("closefd", {"fdname": name})


def ours(qmp: Qmp, query: str, key: str) -> list[dict[str, object]]:
    rows = qmp.ask(query)
    listed = rows if isinstance(rows, list) else []
    return [each for each in listed if isinstance(each, dict) and str(each.get(key)).startswith(OURS)]


def restore(qmp: Qmp, record: dict[str, object]) -> None:
    """Set capabilities and parameters as they were, and remove the record, the last of what is ours."""
    capabilities, parameters = record.get("capabilities"), record.get("parameters")
    if capabilities and isinstance(capabilities, dict):
        states = [{"capability": name, "state": state} for name, state in capabilities.items()]
        qmp.try_("migrate-set-capabilities", {"capabilities": states})
    if parameters:
        qmp.try_("migrate-set-parameters", parameters)
    qmp.try_("object-del", {"id": RECORD})


def has_died(pipe: int, qmp: socket.socket) -> bool:
    """Wait until the console has died, True, or has said that it needs no guardian, or the QEMU has ended.

    A console may end because its QEMU has: then there is no guest to bring back.
    """
    watch = select.poll()
    watch.register(pipe, select.POLLIN)
    watch.register(qmp, select.POLLRDHUP)
    heard = b""
    while True:
        ready = dict(watch.poll())
        if pipe not in ready:
            return False
        data = os.read(pipe, 4096)
        heard += data
        if not data:
            return not heard.endswith(DONE) and not has_ended(qmp)


def has_ended(qmp: socket.socket) -> bool:
    """Whether the QEMU has ended, or has closed the connection."""
    watch = select.poll()
    watch.register(qmp, select.POLLRDHUP)
    return bool(watch.poll(0))


def main() -> None:
    """``guarding.py DESCRIPTOR ADDRESS``; standard input begins with a line of JSON from ``guardian.py``."""
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 1)
        if not data:
            return
        line += data
    if line == DONE:  # nothing was to be guarded: the sides have not agreed
        return
    given = json.loads(line)
    with contextlib.suppress(BrokenPipeError):  # the console has died already
        os.write(1, READY)
    if not has_died(0, sock):
        return
    try:
        said = bring_back(Qmp(sock, takes_oob=given["oob"]), given["id"], given["descriptors"])
    except (GoneError, RefusedError) as error:
        said = "its QEMU has ended" if has_ended(sock) else f"the guest could not be brought back: {error}"
    if said:
        with contextlib.suppress(OSError):  # the terminal has gone
            os.write(2, f"qmon: the console of {sys.argv[2]} has died: {said}\n".encode())


if __name__ == "__main__":
    main()
