"""The exports of other servers that are open here; files with the same name share their connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from qmon.block.image_file import ImageFile, RemoteFileError
from qmon.errors import QmonError, UsageError, reason
from qmon.host.exposure import Exposure
from qmon.host.sockets import connect
from qmon.host.tls import Tls
from qmon.nbd.client_handshake import NbdOptionError, agree
from qmon.nbd.client_socket import ClientSocket, NbdError
from qmon.nbd.constants import ALLOCATION_CONTEXT, OptionReply, TransmissionFlag
from qmon.nbd.link import Link
from qmon.nbd.links import Links
from qmon.nbd.remote_file import RemoteFile
from qmon.notation.address import InetAddress
from qmon.notation.nbd_names import NbdExport, read_name

PATIENCE_SECONDS = 30.0
"""The time limit of a connect, and of a handshake."""

_RETRY_SECONDS = 0.25
"""Between two attempts to connect during ``open_timeout``."""


FindTls = Callable[[str], Tls]
"""Returns the TLS of an object with credentials. Raises QmonError."""


class OpenExports:
    """Opens exports, as RemoteFiles. For any thread."""

    def __init__(self, find_tls: FindTls, exposure: Exposure) -> None:
        self._find_tls = find_tls
        self._exposure = exposure
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._keepers = 0

    def open(self, name: str, *, read_only: bool) -> ImageFile:
        """Open an export, or share its connections if it is open. Raises RemoteFileError."""
        with self._lock:
            entry = self._entries.setdefault(name, _Entry(name, self._find_tls, self._exposure))
            entry.users += 1
        try:
            links = entry.connected()
            if not read_only and TransmissionFlag.READ_ONLY in links.agreed.flags:
                raise RemoteFileError("request on write denied without write permission")
        except BaseException:
            self._release(entry)
            raise
        return RemoteFile(name, links, lambda: self._release(entry), read_only=read_only)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Inside, an export that nobody uses any more stays connected."""
        with self._lock:
            self._keepers += 1
        try:
            yield
        finally:
            with self._lock:
                self._keepers -= 1
            self._close_unused()

    def interrupt(self) -> None:
        """End all connections: requests fail at once, now and later."""
        with self._lock:
            entries = list(self._entries.values())
        for entry in entries:
            if entry.links is not None:
                entry.links.interrupt()

    def _release(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
        self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            if self._keepers:
                return
            unused = [entry for entry in self._entries.values() if not entry.users]
            for entry in unused:
                del self._entries[entry.name]
        for entry in unused:
            if entry.links is not None:
                entry.links.close()


class _Entry:
    """An export and its users."""

    def __init__(self, name: str, find_tls: FindTls, exposure: Exposure) -> None:
        self.name = name
        self._find_tls = find_tls
        self._exposure = exposure
        self.users = 0
        self.links: Links | None = None
        self._opening = threading.Lock()

    def connected(self) -> Links:
        """Return the connections; make the first one if there is none. Raises RemoteFileError."""
        with self._opening:
            if self.links is None:
                self.links = _open(self.name, self._find_tls, self._exposure)
            return self.links


def _open(name: str, find_tls: FindTls, exposure: Exposure) -> Links:
    export = read_name(name)
    try:
        tls = None if export.tls_creds is None else find_tls(export.tls_creds)
        exposure.check_connecting(export.address, "the connection", has_tls=tls is not None)
    except QmonError as error:
        raise RemoteFileError(str(error)) from error
    deadline = time.monotonic() + export.open_timeout
    while True:
        try:
            return Links(export.shown, lambda: _connect(export, tls), export.reconnect_delay)
        except (OSError, QmonError) as error:
            if time.monotonic() >= deadline or isinstance(error, UsageError):
                raise RemoteFileError(reason(error)) from error
        time.sleep(_RETRY_SECONDS)


def _connect(export: NbdExport, tls: Tls | None) -> Link:
    """Make a connection. Raises OSError, QmonError."""
    try:
        sock = connect(export.address, PATIENCE_SECONDS)
    except OSError as error:
        raise NbdError(f"Failed to connect to '{export.server}': {reason(error)}") from error
    host = export.tls_hostname
    if isinstance(export.address, InetAddress):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        host = host or export.address.host
    wire = ClientSocket(sock, PATIENCE_SECONDS)
    try:
        agreed = agree(
            wire, export.name, [ALLOCATION_CONTEXT], tls, host, needs_structured=False, knows_extended=True
        )
        return Link(*wire.sockets, agreed)
    except NbdOptionError as error:
        wire.close()
        if error.kind != OptionReply.ERR_UNKNOWN:
            raise
        raise NbdError(f"Requested export not available (the server says: {error.said})") from error
    except BaseException:
        wire.close()
        raise
