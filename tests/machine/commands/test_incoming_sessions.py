"""A destination's connections that end while another one is let in."""

from __future__ import annotations

import socket
from typing import Any

from tests.support.embedded_lab import EmbeddedLab, Play


class Leaving:
    """A session that ends, on a thread of its own, just when it is looked at."""

    has_spoken = False

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver

    @property
    def is_channel(self) -> bool:
        self._receiver._ended(self)
        return False


def test_a_connection_is_let_in_while_others_end(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target = await lab.start(lab.settings(lab.image("b.img")), incoming=f"unix:{lab.folder}/in")
        receiver: Any = target.embedded._migrations.incoming.receiver
        receiver._sessions.update({Leaving(receiver): None for _ in range(3)})
        ours, theirs = socket.socketpair()
        with theirs:
            assert receiver._let_in(ours, "a test")
            assert not any(isinstance(each, Leaving) for each in receiver._sessions)

    play(scene)
