"""The objects that a user can create (QAPI: qom.json, ObjectOptions).

Reads the option strings of ``-object`` and ``object_add`` into the arguments of QMP's object-add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError
from qmon.notation.json_text import parse_json
from qmon.notation.keyval import IDENTIFIER_HINT, is_identifier
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.qapi import LACKS, Member, default_schema
from qmon.notation.visit import Form

LIMIT_NAMES = (
    *(
        f"{measure}{end}"
        for measure in ("iops-total", "iops-read", "iops-write", "bps-total", "bps-read", "bps-write")
        for end in ("", "-max", "-max-length")
    ),
    "iops-size",
)
"""The members of ThrottleLimits, in QAPI's order."""

_OBJECT, _TYPE = "ObjectOptions", "ObjectType"

_ENCRYPTED = ("keyid", "iv")


class OtherTypeError(UsageError):
    """An object of a type that QEMU has and this machine has not: it would have no effect here."""

    def __init__(self, type_name: str, why: str) -> None:
        super().__init__(why)
        self.type_name = type_name


def type_names() -> tuple[str, ...]:
    """Return the types that can be created."""
    return default_schema().words(_TYPE)


def options_of(type_name: str) -> list[Member]:
    """Return the options of a type, without ``qom-type`` and ``id``."""
    schema = default_schema()
    return schema.members(schema.branches(_OBJECT)[type_name])


def read_object(given: dict[str, Any], form: Form) -> dict[str, Any]:
    """Check the arguments of object-add; return them as JSON values.

    Raises OtherTypeError for a type that has no effect here, and UsageError with QEMU's message otherwise.
    """
    schema = default_schema()
    type_name = given.get("qom-type")
    try:
        arguments: dict[str, Any] = schema.kind(_OBJECT).read(given, form, ())
    except UsageError as error:
        if isinstance(type_name, str) and type_name in schema[_TYPE][LACKS]:
            raise OtherTypeError(type_name, str(error)) from error
        raise
    if type_name == "secret" and any(name in given for name in _ENCRYPTED):
        raise UsageError("encrypted secrets (keyid, iv) are not supported: use file= and protect the file")
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
    if type_name is None or type_name not in type_names():
        return ["List of user creatable objects:", *(f"  {name}" for name in type_names())]
    lines = (f"  {option.name}=<{written(option)}>" for option in options_of(type_name))
    return [f"{type_name} options:", *sorted(lines)]


def written(option: Member) -> str:
    """Return how an option's value is written: the type's name, or the words that it takes."""
    schema = default_schema()
    if isinstance(option.type, str) and option.type in schema and "enum" in schema[option.type]:
        return "|".join(schema.words(option.type))
    return f"[{option.type[0]}]" if isinstance(option.type, list) else str(option.type)
