"""The objects that a user can create: their types and options, as data (QAPI: qom.json).

Reads the option strings of ``-object`` and ``object_add`` into the arguments of QMP's object-add.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qmon.errors import UsageError
from qmon.notation.json_text import parse_json
from qmon.notation.keyval import IDENTIFIER_HINT, is_identifier
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.visit import (
    Choice,
    Form,
    Kind,
    Struct,
    Text,
    struct,
)

_MEASURES = ("iops-total", "iops-read", "iops-write", "bps-total", "bps-read", "bps-write")
LIMIT_NAMES = (
    *(f"{measure}{end}" for measure in _MEASURES for end in ("", "-max", "-max-length")),
    "iops-size",
)
"""The members of ThrottleLimits, in QAPI's order."""

_STRUCTS: dict[str, Kind] = {
    "limits": struct(" ".join(f"{name}:int" for name in LIMIT_NAMES)),
    "rule": struct("match:str! policy:deny|allow! format:exact|glob"),
}

_CREDS = "verify-peer:bool dir:str endpoint:client|server priority:str"

TYPES: dict[str, str] = {
    "authz-list": "policy:deny|allow rules:[rule]",
    "authz-list-file": "filename:str! refresh:bool",
    "authz-simple": "identity:str!",
    "iothread": """poll-max-ns:int poll-grow:int poll-shrink:int aio-max-batch:int thread-pool-min:int
        thread-pool-max:int""",
    "secret": "data:str file:str format:raw|base64",
    "throttle-group": "limits:limits " + " ".join(f"x-{name}:int" for name in LIMIT_NAMES),
    "tls-creds-anon": _CREDS,
    "tls-creds-psk": f"{_CREDS} username:str",
    "tls-creds-x509": f"{_CREDS} sanity-check:bool passwordid:str",
}
"""The types that can be created, and their options as ``visit.struct`` reads them."""

_OTHERS = """
    authz-listfile authz-pam can-bus can-host-socketcan colo-compare cryptodev-backend
    cryptodev-backend-builtin cryptodev-backend-lkcf cryptodev-vhost-user dbus-vmstate filter-buffer
    filter-dump filter-mirror filter-redirector filter-replay filter-rewriter input-barrier input-linux
    main-loop memory-backend-epc memory-backend-file memory-backend-memfd memory-backend-ram pef-guest
    pr-manager-helper qtest rng-builtin rng-egd rng-random s390-pv-guest secret_keyring sev-guest
    thread-context tls-cipher-suites x-remote-object x-vfio-user-server
"""
OTHER_TYPES = frozenset(_OTHERS.split())
"""QEMU's other types: they would have no effect here."""

_ENCRYPTED = ("keyid", "iv")


class OtherTypeError(UsageError):
    """An object of one of ``OTHER_TYPES``."""

    def __init__(self, type_name: str) -> None:
        super().__init__(f"object type '{type_name}' is not supported: use one of {', '.join(TYPES)}")
        self.type_name = type_name


@lru_cache
def options_of(type_name: str) -> Struct:
    """Return the options of a type, including ``qom-type`` and ``id``."""
    own = struct(TYPES[type_name], _STRUCTS)
    members: dict[str, Kind] = {"qom-type": _TYPE, "id": Text(), **own.members}
    return Struct(members, own.required | {"qom-type", "id"})


_TYPE = Choice((*TYPES, *OTHER_TYPES))


def read_object(given: dict[str, Any], form: Form) -> dict[str, Any]:
    """Check the arguments of object-add; return them as JSON values.

    Raises OtherTypeError for a type that has no effect here, and UsageError with QEMU's message otherwise.
    """
    if "qom-type" not in given:
        raise UsageError("Parameter 'qom-type' is missing")
    type_name = _TYPE.read(given["qom-type"], form, ("qom-type",))
    if type_name in OTHER_TYPES:
        raise OtherTypeError(type_name)
    if type_name == "secret" and any(name in given for name in _ENCRYPTED):
        raise UsageError("encrypted secrets (keyid, iv) are not supported: use file= and protect the file")
    arguments: dict[str, Any] = options_of(type_name).read(given, form)
    return arguments


def check_identifier(text: str) -> None:
    """Raises UsageError for an invalid id, in two lines as QEMU's monitor prints it."""
    if not is_identifier(text):
        raise UsageError(f"Parameter 'id' expects an identifier\n{IDENTIFIER_HINT}")


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """An option string asked for help: about a type's options, or, without ``type_name``, for all types."""

    type_name: str | None


def parse_object(text: str, form: Form = Form.KEYVAL) -> dict[str, Any] | HelpWanted:
    """Read an option string or JSON into the arguments of object-add.

    ``form`` of an option string is KEYVAL on a monitor, OPTION on the command line. Raises UsageError with
    QEMU's message.
    """
    if text.startswith("{"):
        arguments = read_object(parse_json(text), Form.JSON)
    else:
        tree, asks_help = parse_tree(text, "qom-type")
        if asks_help:
            type_name = tree.get("qom-type")
            return HelpWanted(type_name if isinstance(type_name, str) else None)
        arguments = read_object(tree, form)
    check_identifier(arguments["id"])
    return arguments


def help_lines(type_name: str | None) -> list[str]:
    """Return what ``help`` prints: a type's options, or the list of types if there is no such type."""
    if type_name not in TYPES:
        return ["List of user creatable objects:", *(f"  {name}" for name in TYPES)]
    pieces = (piece.removesuffix("!").partition(":") for piece in TYPES[type_name].split())
    return [f"{type_name} options:", *sorted(f"  {name}=<{kind}>" for name, _, kind in pieces)]
