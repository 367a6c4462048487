"""The message in which a side tells what it has: nothing is lost, and a stranger's message does no harm."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.remote.migration.agreement.inventory import DISKS_MAX, Disk, Inventory
from qmon.remote.migration.wire.message import MessageError
from tests.support.inventories import disk, side

FULL = side(
    disk("a", "one", identities=("wwid x",)),
    disk("cd", node="", removable=True),
    migration="none",
    parameters={"max-bandwidth": 1 << 63, "tls-creds": "", "cpu-throttle-tailslow": False},
    jobs=("j0 (backup)",),
    exports=("e0 of n0",),
    obstacles=("it can't",),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_a_side_reads_what_the_other_has_told() -> None:
    assert Inventory.from_message(json.loads(json.dumps(FULL.to_message()))) == FULL


def test_members_that_are_not_known_are_ignored() -> None:
    assert Inventory.from_message({**FULL.to_message(), "later": [1]}) == FULL


@pytest.mark.parametrize("name", sorted(each.name for each in fields(Inventory)))
def test_no_member_may_be_missing(name: str) -> None:
    message = FULL.to_message()
    del message[name.replace("_", "-")]
    with pytest.raises(MessageError, match=name.replace("_", "-")):
        Inventory.from_message(message)


@pytest.mark.parametrize("name", sorted(each.name for each in fields(Disk)))
def test_no_member_of_a_disk_may_be_missing(name: str) -> None:
    message = disk("a").to_message()
    del message[name.replace("_", "-")]
    with pytest.raises(MessageError, match=name.replace("_", "-")):
        Disk.from_message(message)


@given(st.sampled_from(sorted(FULL.to_message())), json_values)
def test_a_strange_member_is_refused_in_one_line_or_taken(name: str, value: object) -> None:
    said = ""
    try:
        Inventory.from_message({**FULL.to_message(), name: value})
    except MessageError as error:
        said = str(error)
    assert said == "" or said.isprintable()
    assert len(said) < 300


@given(json_values)
def test_a_strange_message_is_refused(value: object) -> None:
    with pytest.raises(MessageError):
        Inventory.from_message(value)


def test_a_message_with_too_many_disks_is_refused() -> None:
    message = FULL.to_message()
    message["disks"] = [disk("a").to_message()] * (DISKS_MAX + 1)
    with pytest.raises(MessageError, match="a list of at most 256 members"):
        Inventory.from_message(message)
