"""The comparison of copied disks, against real QEMUs, when something hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from qmon.errors import QmonError
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof import verification
from qmon.remote.migration.proof.answers import Answers
from qmon.remote.migration.proof.verification import DiskCheck, Verification
from tests.support.connections import connected
from tests.support.peer import Peer


def test_a_destination_that_does_not_answer_holds_the_guest_up_for_a_bounded_time(
    qemu: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "PATIENCE_SECONDS", 0.3)
    hangs: list[bool] = []

    async def ask(command: str, arguments: Mapping[str, Any]) -> Any:
        if command == verification.COMPARE:
            return {}
        if not hangs:
            return {"digests": [""] * len(arguments["ranges"])}
        return await asyncio.Future()

    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            node = (await remote.execute("query-block"))[0]["inserted"]["node-name"]
            disk = DiskCheck("d0", node, "qmon-x0-abcdef")
            checked = Verification(remote, [disk], ask, "sample", 1)
            await checked.prepare()
            await checked.open()
            checked.warm()
            hangs.append(True)
            with pytest.raises(QmonError, match=r"could not be compared within .* does not answer"):
                await checked.check(0.3)
            await checked.close()
            assert await remote.execute("query-block-exports") == []
            await remote.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "free"}}})

    asyncio.run(run())


def test_a_source_that_serves_others_says_what_to_do(qemu: Peer) -> None:
    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            await remote.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "theirs"}}})
            checked = Verification(remote, [], lambda *_: asyncio.Future(), "sample", 1)
            with pytest.raises(QmonError, match="NBD server already running: end its NBD server"):
                await checked.prepare()
            await checked.close()
            await remote.execute("nbd-server-stop")  # it is still there

    asyncio.run(run())


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("overlays", {}),
        ("overlays", {"mark": "x" * 17, "nodes": []}),
        ("overlays", {"mark": "x", "nodes": {"0": "d0"}}),
        ("overlays", {"mark": "x", "nodes": [7]}),
        ("overlays", {"mark": "x", "nodes": ["a"] * 2}),
        ("overlays", {"mark": "x", "nodes": [f"node{number}" for number in range(300)]}),
        ("read-only", {"mark": "x", "nodes": ["nosuch"]}),
        ("read-only", {"mark": "\n x/..", "nodes": ["#block"]}),
        ("digests", {"view": "qmon-x0-abcdef", "ranges": [], "milliseconds": 1}),
        ("digests", {"view": [], "ranges": [], "milliseconds": 1}),
    ],
)
def test_a_strange_question_is_one_line_and_leaves_nothing(
    qemu: Peer, command: str, arguments: dict[str, Any]
) -> None:
    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            answers = Answers(remote, PrivateServer(remote))
            with pytest.raises(QmonError) as refused:
                await answers.requests(Phase.SETUP)[command](arguments)
            assert len(str(refused.value).splitlines()) == 1
            assert await remote.execute("query-block-exports") == []
            await remote.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "free"}}})

    asyncio.run(run())


@pytest.mark.parametrize("theirs", [False, True], ids=["free", "theirs"])
def test_a_server_whose_start_was_interrupted_is_stopped_and_no_other(qemu: Peer, theirs: bool) -> None:
    start = {"addr": {"type": "unix", "data": {"path": "theirs"}}}

    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            if theirs:
                await remote.execute("nbd-server-start", start)
            for pauses in range(12):  # at each of its steps
                server = PrivateServer(remote)
                starting = asyncio.create_task(server.start())
                for _ in range(pauses):
                    await asyncio.sleep(0)
                starting.cancel()
                await asyncio.wait([starting])
                if not starting.cancelled():
                    starting.exception()
                await server.stop()
                if theirs:
                    with pytest.raises(QmonError, match="NBD server already running"):
                        await remote.execute("nbd-server-start", start)
                else:
                    await remote.execute("nbd-server-start", start)
                    await remote.execute("nbd-server-stop")
            if theirs:
                await remote.execute("nbd-server-stop")

    asyncio.run(run())
