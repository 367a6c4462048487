"""Recognizes a QEMU whose NBD server can end it, and the guest with it.

Before 9.0 the export of a disk in an iothread was used by that thread and by the main thread without a lock:

- When QEMU drains the disk while a client is connected, for a job that begins or ends or for the guest's
  pause, it sometimes fails: "nbd_co_receive_request: Assertion `client->recv_coroutine ==
  qemu_coroutine_self()'".
- When a client disconnects before the server is stopped, it fails each time:
  "nbd_blockdev_client_closed: Assertion `qemu_in_main_thread() && nbd_server'".
"""

from __future__ import annotations

from qmon.qmp.target import Target, ask, well_formed

_MENDED = (9, 0)
_IOTHREADS = "query-iothreads"


async def has_fragile_server(target: Target) -> bool:
    """Whether no client may be connected to its exports while it drains a disk. Raises CommandError."""
    version = await ask(target, "query-version", {})
    with well_formed():
        qemu = version["qemu"]
        if (qemu["major"], qemu["minor"]) >= _MENDED:
            return False
    return bool(await ask(target, _IOTHREADS, []))
