"""Put recorded requests to qmon, and show where its messages differ from QEMU's.

python -m tests.interop.qmp.replay [NAME ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.interop.qmp.record import EXCHANGES
from tests.support.exchanges import Conversation, differences, drives, requests_of
from tests.support.peer import QMON_HERE, Peer

Found = tuple[str, str, Any, Any]
"""A request, the path of a member in its messages, QEMU's value and qmon's."""

SHOWN = 300


def replay(file: Path, folder: Path) -> Iterator[Found]:
    """Yield what qmon says otherwise than QEMU did."""
    recorded = [json.loads(line) for line in file.with_suffix(".json").read_text().splitlines()]
    with Peer(QMON_HERE, folder / "qmon", drives) as peer, peer.qmp() as client:
        conversation = Conversation(client)
        for request, theirs in zip(requests_of(file), recorded, strict=True):
            ours = conversation.exchange(request, len(theirs))
            for path, one, other in differences(theirs, ours):
                yield request, path, one, other
        if rest := conversation.rest():
            yield "(the end)", "", [], rest


def told(found: Found) -> str:
    """A difference as text."""
    request, path, theirs, ours = found
    return (
        f"{request}\n  {path or 'messages'}\n"
        f"    QEMU: {json.dumps(theirs)[:SHOWN]}\n    qmon: {json.dumps(ours)[:SHOWN]}"
    )


def main() -> None:
    differ = total = 0
    for file in sorted(EXCHANGES.glob("*.qmp")):
        if sys.argv[1:] and file.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = list(replay(file, Path(folder)))
        for each in found:
            print(told(each))
        bad = len({each[0] for each in found})
        count = len(requests_of(file))
        print(f"--- {file.stem}: {count} exchanges, {bad} requests are answered otherwise")
        differ, total = differ + bad, total + count
    print(f"{total} exchanges, {differ} requests are answered otherwise")


if __name__ == "__main__":
    main()
