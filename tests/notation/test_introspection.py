"""Option strings become a command's arguments by the schema of a target."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import UsageError
from qmon.notation.introspection import Introspection
from qmon.notation.keyval_tree import parse_tree

SCALARS = {"str": "string", "int": "int", "bool": "boolean", "number": "number", "null": "null"}


def builtin(name: str) -> dict[str, Any]:
    return {"name": name, "meta-type": "builtin", "json-type": SCALARS[name]}


def members(*each: tuple[str, str] | tuple[str, str, None]) -> list[dict[str, Any]]:
    return [{"name": one[0], "type": one[1], **({"default": None} if len(one) == 3 else {})} for one in each]


SCHEMA: list[dict[str, Any]] = [
    *map(builtin, SCALARS),
    {"name": "add", "meta-type": "command", "arg-type": "node", "ret-type": "null"},
    {
        "name": "node",
        "meta-type": "object",
        "members": members(("driver", "kind"), ("ro", "bool", None)),
        "tag": "driver",
        "variants": [{"case": "file", "type": "file"}, {"case": "top", "type": "top"}],
    },
    {"name": "kind", "meta-type": "enum", "values": ["file", "top", "none"]},
    {
        "name": "file",
        "meta-type": "object",
        "members": members(("filename", "str"), ("size", "int", None), ("share", "number", None)),
    },
    {
        "name": "top",
        "meta-type": "object",
        "members": members(("file", "ref"), ("backing", "ref-or-null", None), ("rules", "rules", None)),
    },
    {"name": "ref", "meta-type": "alternate", "members": [{"type": "node"}, {"type": "str"}]},
    {
        "name": "ref-or-null",
        "meta-type": "alternate",
        "members": [{"type": "node"}, {"type": "str"}, {"type": "null"}],
    },
    {"name": "rules", "meta-type": "array", "element-type": "rule"},
    {"name": "rule", "meta-type": "object", "members": members(("match", "str"), ("on", "bool", None))},
]


def read(text: str) -> dict[str, Any]:
    return Introspection(SCHEMA).read("add", parse_tree(text, "driver")[0])


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("none", {"driver": "none"}),
        ("file,filename=a,,b,size=4M", {"driver": "file", "filename": "a,b", "size": 4 << 20}),
        (
            "file,filename=on,size=-1,share=0.5",
            {"driver": "file", "filename": "on", "size": -1, "share": 0.5},
        ),
        ("top,file=n0,ro=on", {"driver": "top", "file": "n0", "ro": True}),
        (
            "top,file.driver=file,file.filename=7,backing=",
            {"driver": "top", "file": {"driver": "file", "filename": "7"}, "backing": None},
        ),
        (
            "top,file=n0,rules.0.match=a,rules.1.match=b,rules.1.on=off",
            {"driver": "top", "file": "n0", "rules": [{"match": "a"}, {"match": "b", "on": False}]},
        ),
    ],
)
def test_values_have_the_schemas_types(text: str, arguments: dict[str, Any]) -> None:
    assert read(text) == arguments


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nosuch", "Parameter 'driver' does not accept value 'nosuch'"),
        ("file", "Parameter 'filename' is missing"),
        ("top,file.driver=file", "Parameter 'file.filename' is missing"),
        ("none,filename=a", "Parameter 'filename' is unexpected"),
        ("top,file=a,rules.0.no=b", "Parameter 'rules.0.match' is missing"),
        ("none,ro=maybe", "Parameter 'ro' expects 'on' or 'off'"),
        ("file,filename.x=1", "Parameters 'filename.*' are unexpected"),
        ("file,filename=a,share=much", "Parameter 'share' expects a number"),
        ("top,file=a,rules.0=b", "Parameter 'rules.0' has options of its own: write rules.0.OPTION=b"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert str(raised.value) == error


_WORDS = st.sampled_from(
    "driver file top none filename size share ro rules 0 1 match on off backing x 4M -1 .5".split()
)
TREES = st.recursive(
    _WORDS,
    lambda inner: st.dictionaries(_WORDS, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(_WORDS, TREES, max_size=5))
def test_any_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    try:
        arguments = Introspection(SCHEMA).read("add", tree)
    except UsageError:
        return
    assert arguments.keys() == tree.keys()
    assert arguments["driver"] == tree["driver"]
