"""Addresses that others on the network can reach without TLS: warned about, or refused (``-require-tls``)."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable

from qmon.errors import CommandError
from qmon.host.sockets import listen, resolve
from qmon.notation.address import Address, InetAddress

Tell = Callable[[str], None]

_log = logging.getLogger(__name__)

_REMEDY = "use TLS (tls-creds), a Unix socket or a loopback address"


class Exposure:
    """What one process says of its addresses without TLS. Its methods may block. For any thread.

    ``requires_tls``: such an address is refused. Else each of ``tells`` is called once for each address on
    which something listens.
    """

    def __init__(self, *, requires_tls: bool = False, tell: Tell = _log.warning) -> None:
        self.tells: list[Tell] = [tell]
        self._requires_tls = requires_tls
        self._told: set[str] = set()

    def listen(self, address: Address, what: str, *, has_tls: bool = False) -> socket.socket:
        """Return a listening socket for ``what``, such as "the NBD server".

        Raises CommandError if the address is refused, OSError or UsageError as ``qmon.host.sockets.listen``.
        """
        self.check_listening(address, what, has_tls=has_tls)
        listener = listen(address)
        self.note(listener, what, has_tls=has_tls)
        return listener

    def check_listening(self, address: Address, what: str, *, has_tls: bool = False) -> None:
        """Raises CommandError if ``what`` may not listen at an address, UsageError if that is no address."""
        if self._requires_tls and not has_tls and isinstance(address, InetAddress):
            self._check(resolve(address, passive=True)[1][0], f"{what} on {address}")

    def check_connecting(self, address: Address, what: str, *, has_tls: bool = False) -> None:
        """Raises CommandError if ``what`` may not connect to an address, UsageError if that is no address."""
        if self._requires_tls and not has_tls and isinstance(address, InetAddress):
            self._check(resolve(address, passive=False)[1][0], f"{what} to {address}")

    def note(self, listener: socket.socket, what: str, *, has_tls: bool = False) -> None:
        """Warn of a socket that listens. Raises CommandError if it is refused; then it is closed."""
        if has_tls or listener.family not in (socket.AF_INET, socket.AF_INET6):
            return
        host, port = listener.getsockname()[:2]
        where = str(InetAddress(host, str(port)))
        try:
            self._check(host, f"{what} on {where}")
        except CommandError:
            listener.close()
            raise
        if not is_loopback(host) and where not in self._told:
            self._told.add(where)
            text = open_to_network(what, where)
            for tell in self.tells:
                tell(text)

    def _check(self, host: str, what: str) -> None:
        if self._requires_tls and not is_loopback(host):
            raise CommandError(f"{what} has no TLS, and -require-tls is given: {_REMEDY}")


def open_to_network(what: str, where: str) -> str:
    """Return the warning of ``what``, which listens at ``where`` without TLS."""
    return (
        f"warning: {what} on {where} is open to the network without TLS: others can connect, and read and"
        " change what passes"
    )


def is_loopback(host: str) -> bool:
    """Whether only this host can reach a numeric address."""
    found = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback
