"""The objects that a user can make: their types, options and properties, as data (QAPI: qom.json).

Option strings of ``-object`` and ``object_add`` are read here into the arguments of QMP's object-add.
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


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type.

    ``options``: what object-add takes, in QAPI's order (``visit.struct`` reads it). ``properties``: what
    qom-list shows, as ``name=type``, in QEMU's order; a ``*`` before one that can't be set. ``parent``: the
    type above it. ``absent``: what the machine has none of, so that it can't make the object, or "".
    """

    options: str
    properties: str = ""
    parent: str = "object"
    absent: str = ""


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

_LOOP = "aio-max-batch:int thread-pool-min:int thread-pool-max:int"
_LOOP_SHOWN = "thread-pool-min=int aio-max-batch=int thread-pool-max=int"
_MEMORY = """dump:bool host-nodes:[uint16] merge:bool policy:default|preferred|bind|interleave prealloc:bool
    prealloc-threads:uint32 prealloc-context:str share:bool reserve:bool size:size!
    x-use-canonical-path-for-ramblock-id:bool"""
_MEMORY_SHOWN = """share=bool size=int dump=bool prealloc-threads=int
    x-use-canonical-path-for-ramblock-id=bool policy=HostMemPolicy
    prealloc-context=link<thread-context> prealloc=bool reserve=bool host-nodes=int
    merge=bool"""
_SECRET = "loaded:bool format:raw|base64 keyid:str iv:str"
_CREDS = "verify-peer:bool dir:str endpoint:client|server priority:str"
_CREDS_SHOWN = "endpoint=QCryptoTLSCredsEndpoint dir=string verify-peer=bool priority=string"
_FILTER = "netdev:str! queue:all|rx|tx status:str position:str insert:before|behind"
_LIMITS_SHOWN = """x-bps-write-max-length=int x-iops-total-max-length=int x-iops-size=int
    limits=ThrottleLimits x-bps-total=int x-iops-read-max-length=int x-bps-write=int
    x-iops-write-max-length=int x-bps-read-max=int x-iops-read-max=int x-bps-total-max=int
    x-bps-read-max-length=int x-iops-read=int x-bps-read=int x-bps-write-max=int x-iops-total-max=int
    x-iops-total=int x-iops-write=int x-bps-total-max-length=int x-iops-write-max=int"""

_NO_NETWORK = "network cards"
_NO_INPUT = "input devices"
_NO_DEVICES = "device bus"
_NO_CPU = "CPU"

TYPES: dict[str, TypeRow] = {
    "authz-list": TypeRow(
        "policy:deny|allow rules:[rule]", "policy=QAuthZListPolicy rules=QAuthZListRule", "authz"
    ),
    # QAPI spells it authz-listfile, which no QEMU knows as an object: there it can't be made at all.
    "authz-list-file": TypeRow("filename:str! refresh:bool", "filename=string refresh=bool", "authz"),
    "authz-simple": TypeRow("identity:str!", "identity=string", "authz"),
    "can-bus": TypeRow(""),
    "can-host-socketcan": TypeRow("if:str! canbus:str!", absent=_NO_DEVICES),
    "colo-compare": TypeRow(
        """primary_in:str! secondary_in:str! outdev:str! iothread:str! notify_dev:str compare_timeout:uint64
        expired_scan_cycle:uint32 max_queue_size:uint32 vnet_hdr_support:bool""",
        absent=_NO_NETWORK,
    ),
    "cryptodev-backend": TypeRow("queues:uint32", absent=_NO_DEVICES),
    "cryptodev-backend-builtin": TypeRow("queues:uint32", absent=_NO_DEVICES),
    "cryptodev-vhost-user": TypeRow("queues:uint32 chardev:str!", absent=_NO_DEVICES),
    "dbus-vmstate": TypeRow("addr:str! id-list:str", absent="device state"),
    "filter-buffer": TypeRow(f"{_FILTER} interval:uint32!", absent=_NO_NETWORK),
    "filter-dump": TypeRow(f"{_FILTER} file:str! maxlen:uint32", absent=_NO_NETWORK),
    "filter-mirror": TypeRow(f"{_FILTER} outdev:str! vnet_hdr_support:bool", absent=_NO_NETWORK),
    "filter-redirector": TypeRow(f"{_FILTER} indev:str outdev:str vnet_hdr_support:bool", absent=_NO_NETWORK),
    "filter-replay": TypeRow(_FILTER, absent=_NO_NETWORK),
    "filter-rewriter": TypeRow(f"{_FILTER} vnet_hdr_support:bool", absent=_NO_NETWORK),
    "input-barrier": TypeRow(
        "name:str! server:str port:str x-origin:str y-origin:str width:str height:str", absent=_NO_INPUT
    ),
    "input-linux": TypeRow(
        """evdev:str! grab_all:bool repeat:bool
        grab-toggle:ctrl-ctrl|alt-alt|shift-shift|meta-meta|scrolllock|ctrl-scrolllock""",
        absent=_NO_INPUT,
    ),
    "iothread": TypeRow(
        f"{_LOOP} poll-max-ns:int poll-grow:int poll-shrink:int",
        f"{_LOOP_SHOWN} poll-max-ns=int poll-grow=int poll-shrink=int",
        "event-loop-base",
    ),
    "main-loop": TypeRow(_LOOP, _LOOP_SHOWN, "event-loop-base"),
    "memory-backend-file": TypeRow(
        f"{_MEMORY} align:size discard-data:bool mem-path:str! pmem:bool readonly:bool",
        f"{_MEMORY_SHOWN} readonly=bool align=int pmem=bool mem-path=string discard-data=bool",
        "memory-backend",
    ),
    "memory-backend-memfd": TypeRow(
        f"{_MEMORY} hugetlb:bool hugetlbsize:size seal:bool",
        f"{_MEMORY_SHOWN} hugetlb=bool seal=bool hugetlbsize=int",
        "memory-backend",
    ),
    "memory-backend-ram": TypeRow(_MEMORY, _MEMORY_SHOWN, "memory-backend"),
    "pr-manager-helper": TypeRow("path:str!", absent="SCSI devices"),
    "qtest": TypeRow("chardev:str! log:str", absent=_NO_DEVICES),
    "rng-builtin": TypeRow("opened:bool", "*opened=bool", "rng-backend"),
    "rng-egd": TypeRow("opened:bool chardev:str!", absent=_NO_DEVICES),
    "rng-random": TypeRow("opened:bool filename:str", "*opened=bool filename=string", "rng-backend"),
    "secret": TypeRow(
        f"{_SECRET} data:str file:str",
        "iv=string keyid=string *loaded=bool format=QCryptoSecretFormat file=string data=string",
        "secret_common",
    ),
    "secret_keyring": TypeRow(f"{_SECRET} serial:int32!", absent="kernel keyring"),
    "sev-guest": TypeRow(
        """sev-device:str dh-cert-file:str session-file:str policy:uint32 handle:uint32 cbitpos:uint32
        reduced-phys-bits:uint32! kernel-hashes:bool""",
        absent=_NO_CPU,
    ),
    "thread-context": TypeRow("cpu-affinity:[uint16] node-affinity:[uint16]", absent="guest memory"),
    "throttle-group": TypeRow(
        "limits:limits " + " ".join(f"x-{name}:int" for name in LIMIT_NAMES), _LIMITS_SHOWN
    ),
    "tls-cipher-suites": TypeRow(_CREDS, absent="firmware"),
    "tls-creds-anon": TypeRow(f"{_CREDS} loaded:bool", f"{_CREDS_SHOWN} *loaded=bool", "tls-creds"),
    "tls-creds-psk": TypeRow(
        f"{_CREDS} loaded:bool username:str", f"{_CREDS_SHOWN} username=string *loaded=bool", "tls-creds"
    ),
    "tls-creds-x509": TypeRow(
        f"{_CREDS} loaded:bool sanity-check:bool passwordid:str",
        f"{_CREDS_SHOWN} sanity-check=bool passwordid=string *loaded=bool",
        "tls-creds",
    ),
    "x-remote-object": TypeRow("fd:str! devid:str!", absent=_NO_DEVICES),
}

NAMED_ONLY: dict[str, str] = {
    "authz-listfile": "filename:str! refresh:bool",
    "authz-pam": "service:str!",
    "cryptodev-backend-lkcf": "queues:uint32",
    "memory-backend-epc": _MEMORY,
    "pef-guest": "",
    "s390-pv-guest": "",
    "x-vfio-user-server": "socket:any! device:str!",
}
"""Types that QAPI names and QEMU on this kind of host does not have: name to options."""

CREATABLE = tuple(sorted(name for name, row in TYPES.items() if not row.absent))
"""The types that the machine makes."""

_TYPE = Choice((*TYPES, *NAMED_ONLY))


@lru_cache(maxsize=64)
def options_of(type_name: str) -> Struct:
    """The options of one of QAPI's types, ``qom-type`` and ``id`` among them."""
    row = TYPES.get(type_name)
    own = struct(row.options if row else NAMED_ONLY[type_name], _STRUCTS)
    members: dict[str, Kind] = {"qom-type": _TYPE, "id": Text(), **own.members}
    return Struct(members, own.required | {"qom-type", "id"})


def read_object(given: dict[str, Any], form: Form) -> dict[str, Any]:
    """Check what object-add is given; return its arguments as JSON would hold them.

    Raises UsageError with QEMU's words.
    """
    if "qom-type" not in given:
        raise UsageError("Parameter 'qom-type' is missing")
    type_name = _TYPE.read(given["qom-type"], form, ("qom-type",))
    arguments: dict[str, Any] = options_of(type_name).read(given, form)
    return arguments


def check_identifier(text: str) -> None:
    """Raises UsageError, in two lines as QEMU's monitor prints it, for what can't be an id."""
    if not is_identifier(text):
        raise UsageError(f"Parameter 'id' expects an identifier\n{IDENTIFIER_HINT}")


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """An option string asked for help: for one type's, or for the types where ``type_name`` is None."""

    type_name: str | None


def parse_object(text: str, form: Form = Form.KEYVAL) -> dict[str, Any] | HelpWanted:
    """Read what a person wrote, an option string or JSON, into the arguments of object-add.

    ``form`` is that of an option string: KEYVAL on a monitor, OPTION on the command line. Raises
    UsageError with QEMU's words.
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


def shown_properties(type_name: str) -> dict[str, tuple[str, bool]]:
    """A creatable type's properties in QEMU's order: name to type and whether it can be set."""
    found = {}
    for piece in TYPES[type_name].properties.split():
        name, _, shown = piece.partition("=")
        found[name.removeprefix("*")] = (shown, not name.startswith("*"))
    return found


def help_lines(type_name: str | None) -> list[str]:
    """What ``help`` prints: a type's options, or the types where it names none that can be made."""
    if type_name not in CREATABLE:
        return ["List of user creatable objects:", *(f"  {name}" for name in CREATABLE)]
    settable = [f"  {name}=<{shown}>" for name, (shown, can) in shown_properties(type_name).items() if can]
    if not settable:
        return [f"There are no options for {type_name}."]
    return [f"{type_name} options:", *sorted(settable)]
