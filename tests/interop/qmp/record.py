"""Record QEMU 7.2's messages for the requests in ``exchanges/``.

python -m tests.interop.qmp.record [NAME ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.support.exchanges import Conversation, drives, requests_of
from tests.support.peer import QEMU_7, Peer

EXCHANGES = Path(__file__).parent / "exchanges"


def record(file: Path) -> int:
    """Write what QEMU answers to a file's requests beside it; return how many exchanges there are."""
    requests = requests_of(file)
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(QEMU_7, Path(folder) / "qemu", drives)
        with peer, peer.qmp() as client:
            conversation = Conversation(client)
            answers = [conversation.exchange(request) for request in requests]
    file.with_suffix(".json").write_text("".join(f"{json.dumps(answer)}\n" for answer in answers))
    return len(answers)


def main() -> None:
    total = 0
    for file in sorted(EXCHANGES.glob("*.qmp")):
        if not sys.argv[1:] or file.stem in sys.argv[1:]:
            count = record(file)
            total += count
            print(f"{file.stem}: {count} exchanges")
    print(f"{total} exchanges")


if __name__ == "__main__":
    main()
