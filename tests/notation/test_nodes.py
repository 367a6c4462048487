"""The options of block nodes, in all the ways in which they are written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import QmonError, UsageError
from qmon.notation.blockdev import NodeList
from qmon.notation.caching import WRITEBACK
from qmon.notation.driver_options import QCOW2
from qmon.notation.image_spec import FROM_HEADER, ImageSpec
from qmon.notation.node_reader import NodeReader, flatten, read_json_name

FILE = {"driver": "file", "filename": "a.img"}
VALUES = {"switch": st.booleans(), "size": st.integers(0, 1 << 40), "number": st.integers(0, 1000)}


def refusal(*nodes: str) -> str:
    """What a node is refused with; those before it are accepted."""
    listed = NodeList()
    for each in nodes[:-1]:
        listed.add(each)
    with pytest.raises(QmonError) as caught:
        listed.add(nodes[-1])
    return str(caught.value)


def only(*nodes: str) -> ImageSpec:
    """The one node that no other uses."""
    listed = NodeList()
    for each in nodes:
        listed.add(each)
    (root,) = listed.roots
    return root


def keyval(flat: Mapping[str, Any]) -> str:
    words = {True: "on", False: "off"}
    return ",".join(
        f"{key}={words[value] if isinstance(value, bool) else str(value).replace(',', ',,')}"
        for key, value in flat.items()
    )


@st.composite
def nodes(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """A format's node on a file, with a chain of backing images."""
    driver = draw(st.sampled_from(["raw", "qcow2"]))
    node: dict[str, Any] = {
        "driver": driver,
        "file": {**FILE, "filename": draw(st.text("abc.,:=/", min_size=1, max_size=8))},
    }
    if draw(st.booleans()):
        node["read-only"] = draw(st.booleans())
        node["cache"] = {"direct": draw(st.booleans())}
    if driver == "qcow2":
        names = draw(st.lists(st.sampled_from([name for name in QCOW2 if QCOW2[name] in VALUES]), max_size=2))
        node.update(
            {name: draw(VALUES[QCOW2[name]]) for name in names if "." not in name and "-size" not in name}
        )
        if depth and draw(st.booleans()):
            node["backing"] = draw(nodes(depth - 1))
    return node


@given(nodes())
def test_both_notations_mean_the_same(node: dict[str, Any]) -> None:
    node = {"node-name": "d0", **node}
    assert only(json.dumps(node)) == only(keyval(flatten(node)))


@given(nodes())
def test_a_json_name_means_the_same_flat_or_nested(node: dict[str, Any]) -> None:
    spec = read_json_name("json:" + json.dumps(node))
    assert read_json_name("json:" + json.dumps(flatten(node))) == spec
    assert NodeReader().read(flatten(node)) == spec


def test_nodes_refer_to_earlier_ones() -> None:
    spec = only(
        "driver=file,node-name=f0,filename=base.img",
        "driver=file,node-name=f1,filename=over.qcow2",
        "driver=raw,node-name=b,file=f0,read-only=on",
        "driver=qcow2,node-name=d0,file=f1,backing=b",
    )
    base = ImageSpec("base.img", "raw", FROM_HEADER, "b", "f0", read_only=True, file_driver="file")
    assert spec == ImageSpec("over.qcow2", "qcow2", base, "d0", "f1", file_driver="file")
    assert spec.names == ["d0", "f1", "b", "f0"]


def test_a_backing_image_can_be_shared_and_left_out() -> None:
    listed = NodeList()
    for each in (
        "driver=file,node-name=b,filename=base.img,read-only=on",
        "driver=qcow2,node-name=x,file.driver=file,file.filename=x,backing=b",
        "driver=qcow2,node-name=y,file.driver=file,file.filename=y,backing=b",
        "driver=qcow2,node-name=z,file.driver=file,file.filename=z,backing=",
        '{"driver":"qcow2","node-name":"w","file":{"driver":"file","filename":"w"},"backing":null}',
    ):
        listed.add(each)
    backing = [root.backing for root in listed.roots]
    assert [each.file if isinstance(each, ImageSpec) else each for each in backing] == [
        "base.img",
        "base.img",
        None,
        None,
    ]


def test_a_file_s_node_alone_is_a_raw_disk() -> None:
    spec = only("driver=file,node-name=f,filename=a:b")
    assert (spec.file, spec.format, spec.is_bare, spec.top_name) == ("./a:b", "raw", True, "f")


def test_a_throttle_filter_is_the_top() -> None:
    spec = only(
        "driver=qcow2,node-name=q,file.driver=file,file.filename=a",
        "driver=throttle,node-name=t,throttle-group=g,file=q",
    )
    assert (spec.top_name, spec.name, spec.group, spec.file) == ("t", "q", "g", "a")


def test_options_without_effect_are_named_where_they_stand() -> None:
    listed = NodeList()
    listed.add(
        "driver=qcow2,node-name=d0,cache.direct=on,l2-cache-size=4096,file.driver=file,file.filename=a,file.aio=native"
    )
    assert listed.ignored == ["file.aio", "l2-cache-size"]


@pytest.mark.parametrize(
    ("options", "direct", "no_flush"),
    [
        ("", False, False),
        ("cache.direct=on,", True, False),
        ("cache.no-flush=on,", False, True),
        ("file.cache.direct=on,", True, False),
        ("cache.direct=on,file.cache.direct=off,", False, False),
        ("cache.no-flush=on,file.cache.no-flush=off,", False, True),
    ],
)
def test_a_files_node_caches_as_the_node_above_it_unless_it_says_otherwise(
    options: str, direct: bool, no_flush: bool
) -> None:
    spec = only(f"driver=qcow2,node-name=d0,{options}file.driver=file,file.filename=a")
    found = (spec.caching or WRITEBACK).of_file
    assert (found.direct, found.no_flush) == (direct, no_flush)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "driver=ssh,node-name=n,host=h",
            "driver 'ssh' is not supported: use file, host_device, nbd, qcow2, raw or throttle",
        ),
        ("driver=qcow2,node-name=n,file.driver=http,file.url=u", "driver 'http' is not supported"),
        ("driver=qcow2,node-name=n,file.driver=file,file.filename=a,encrypt.format=luks", "qcow2: option"),
        ('{"driver":"luks","node-name":"n"}', "driver 'luks' is not supported"),
        ("driver=raw,node-name=n,file.driver=file,file.filename=a,offset=512", "raw: option 'offset' is not"),
        (
            "driver=raw,node-name=n,file.driver=qcow2,file.file.driver=file,file.file.filename=a",
            "a format is",
        ),
    ],
)
def test_what_leads_elsewhere_is_refused_by_its_name(given: str, said: str) -> None:
    assert refusal(given).startswith(said)


def test_a_file_belongs_to_one_format() -> None:
    file = "driver=file,node-name=f,filename=a"
    assert refusal(file, "driver=raw,node-name=x,file=f", "driver=raw,node-name=y,file=f") == (
        "Node 'f' is in use by another node"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ('json:{"driver":"ssh","host":"h"}', "driver 'ssh' is not supported"),
        ('json:{"driver":"qcow2","file":{"driver":"https","url":"u"}}', "driver 'https' is not supported"),
        ("json:{", "Could not parse the JSON options: JSON parse error"),
        ("json:[]", "Invalid JSON object given"),
        ('json:{"driver":"raw"}', 'A block device must be specified for "file"'),
    ],
)
def test_a_json_name_that_leads_nowhere_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_json_name(name)
    assert str(caught.value).startswith(said)


def test_options_can_leave_the_backing_file_s_name_to_the_overlay() -> None:
    spec = NodeReader().read({"driver": "qcow2", "backing.driver": "raw"}, "a.qcow2")
    assert spec.backing == ImageSpec("", "raw")
    assert NodeReader().read({"driver": "qcow2"}, "a.qcow2").backing is FROM_HEADER


@pytest.mark.parametrize("key", ["file", "backing"])
def test_nodes_that_are_nested_too_deep_are_refused(key: str) -> None:
    node: dict[str, Any] = {"driver": "qcow2", "file": FILE}
    for _ in range(150):
        node = {"driver": "qcow2", "file": FILE, key: node}
    said = "more than 100 nodes are nested"
    assert refusal(json.dumps({"node-name": "n", **node})) == said
    with pytest.raises(UsageError) as caught:
        read_json_name("json:" + json.dumps(node))
    assert said in str(caught.value)


_KEYS = st.sampled_from(
    """driver file backing filename file.filename backing.file node-name overlap-check cache read-only
    l2-cache-size offset throttle-group file. .""".split()
)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
_WORDS = st.sampled_from(
    ["file", "raw", "qcow2", "throttle", "nbd", "json:{}", "json:{", "nbd:x", "file:x", ""]
)
_ANYTHING = st.recursive(
    _SCALARS | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _ANYTHING, max_size=6))
def test_whatever_the_json_is_it_is_a_node_or_refused_in_words(node: dict[str, Any]) -> None:
    with contextlib.suppress(QmonError):
        read_json_name("json:" + json.dumps(node))
    with contextlib.suppress(QmonError):
        NodeList().add(json.dumps({"node-name": "n", **node}))


@given(st.text("abfilenmdrvqcow2.=,0", max_size=60))
def test_whatever_the_option_string_is_it_is_a_node_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(QmonError):
        NodeList().add(f"node-name=n,{text}")
    with contextlib.suppress(QmonError):
        NodeReader().read(dict.fromkeys(text.split(","), "x"), "a.qcow2")
