"""What libnbd's own tests find under the name nbdkit: a disk on a running qmon.

Started as ``nbdkit_stand_in.py QMP NBD -s ... PLUGIN [KEY=VALUE...]``. It makes the disk that the plugin
(null, pattern, memory, file) would serve, exports it under the empty name, and passes bytes on between the
client and the NBD server. It imports nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys

SUFFIXES = {"K": 1 << 10, "M": 1 << 20}


def image_of(words: list[str]) -> str:
    """Return the path of the image that a plugin's words ask for; it is made, but for the plugin file."""
    plugin, *settings = [word for word in words if not word.startswith("-")]
    if plugin == "file":
        return os.path.abspath(settings[0])
    (text,) = [word.removeprefix("size=") for word in settings if word.startswith("size=")] or ["0"]
    size = int(text.rstrip("KM")) * SUFFIXES.get(text[-1], 1)
    with open("disk.img", "wb") as file:
        if plugin == "pattern":
            numbers = range(0, size, 8)
            file.write(struct.pack(f">{len(numbers)}Q", *numbers))
        file.truncate(size)
    return os.path.abspath("disk.img")


def export(qmp: str, image: str) -> None:
    """Export an image under the empty name."""
    node = {"driver": "raw", "node-name": "disk", "file": {"driver": "file", "filename": image}}
    commands = [
        ("qmp_capabilities", {}),
        ("blockdev-add", node),
        (
            "block-export-add",
            {"type": "nbd", "id": "disk", "node-name": "disk", "name": "", "writable": True},
        ),
    ]
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("r") as lines:
        connection.connect(qmp)
        lines.readline()
        for name, arguments in commands:
            connection.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
            while "event" in (answer := json.loads(lines.readline())):
                pass  # of what was done before
            assert "return" in answer, answer


def relay(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes on, both ways, until one side has ended."""
    other = {client: server, server: client}
    while True:
        for readable in select.select([client, server], [], [])[0]:
            data = readable.recv(1 << 16)
            if not data:
                return
            other[readable].sendall(data)


def main(qmp: str, nbd: str, *words: str) -> None:
    """Serve one client."""
    export(qmp, image_of(list(words)))
    with socket.socket(fileno=0) as client, socket.socket(socket.AF_UNIX) as server:
        server.connect(nbd)
        try:
            relay(client, server)
        except ConnectionError:
            return  # the test has ended without a word


if __name__ == "__main__":
    main(*sys.argv[1:])
