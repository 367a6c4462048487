"""Screens, keyboards and mice: the machine has none, and checks what it is asked of them."""

from __future__ import annotations

from typing import Any, Literal

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.notation.keycodes import KEY_NAMES
from qmon.qmp.registry import command
from qmon.qmp.schema import check_value

Protocol = Literal["vnc", "spice"]
InputEventKind = Literal["key", "btn", "rel", "abs"]


class ScreenCommands:
    """Commands of QAPI's ui.json."""

    @command("send-key")
    async def send_key(self, keys: list[dict[str, Any]], hold_time: int | None = None) -> dict[str, Any]:
        """Press keys of a keyboard that is not there, each a KeyValue of QAPI.

        Raises CommandError for a key that QEMU has no name for.
        """
        for number, key in enumerate(keys):
            _check_key(key, f"keys[{number}]")
        return {}

    @command("input-send-event")
    async def input_send_event(
        self, events: list[dict[str, Any]], device: str | None = None, head: int | None = None
    ) -> dict[str, Any]:
        for number, event in enumerate(events):
            _check_kind(event, InputEventKind, f"events[{number}]")
        if device is not None:
            raise DeviceNotFoundError(device)
        if events:
            raise CommandError(f"Input handler not found for event type {events[0]['type']}")
        return {}

    @command("screendump")
    async def screendump(
        self,
        filename: str,
        device: str | None = None,
        head: int | None = None,
        format: Literal["ppm", "png"] | None = None,
    ) -> dict[str, Any]:
        if device is not None:
            raise DeviceNotFoundError(device)
        if head is not None:
            raise CommandError("'head' must be specified together with 'device'")
        raise CommandError("There is no console to take a screendump from")

    @command("set_password")
    async def set_password(
        self,
        protocol: Protocol,
        password: str,
        connected: Literal["fail", "disconnect", "keep"] | None = None,
        display: str | None = None,
    ) -> dict[str, Any]:
        _check_spice(protocol, display)
        if connected not in (None, "keep"):
            raise CommandError("Invalid parameter 'connected'")
        raise CommandError("Could not set password")

    @command("expire_password")
    async def expire_password(
        self, protocol: Protocol, time: str, display: str | None = None
    ) -> dict[str, Any]:
        _check_spice(protocol, display)
        raise CommandError("Could not set password expire time")

    @command("client_migrate_info")
    async def client_migrate_info(
        self,
        protocol: str,
        hostname: str,
        port: int | None = None,
        tls_port: int | None = None,
        cert_subject: str | None = None,
    ) -> dict[str, Any]:
        if protocol != "spice":
            raise CommandError("Parameter 'protocol' expects 'spice'")
        raise _no_spice()


def _check_key(key: dict[str, Any], path: str) -> None:
    """Check a KeyValue. Raises CommandError."""
    _check_kind(key, Literal["number", "qcode"], path)
    if "data" not in key:
        raise CommandError(f"Parameter '{path}.data' is missing")
    check_value(key["data"], int if key["type"] == "number" else str, f"{path}.data")
    if key["type"] == "qcode" and key["data"] not in KEY_NAMES:
        raise CommandError(f"Parameter 'data' does not accept value '{key['data']}'")
    for name in key:
        if name not in ("type", "data"):
            raise CommandError(f"Parameter '{path}.{name}' is unexpected")


def _check_kind(member: dict[str, Any], kinds: Any, path: str) -> None:
    """Check which member of a union it is. Raises CommandError."""
    if "type" not in member:
        raise CommandError(f"Parameter '{path}.type' is missing")
    check_value(member["type"], kinds, "type")


def _check_spice(protocol: str, display: str | None) -> None:
    if protocol == "spice":
        if display is not None:
            raise CommandError("Parameter 'display' is unexpected")
        raise _no_spice()


def _no_spice() -> CommandError:
    return CommandError("SPICE is not in use", "DeviceNotActive")
