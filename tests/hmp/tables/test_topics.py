"""The file of the tasks of ``help``: how it is read, and what it refuses."""

from __future__ import annotations

import pytest

from qmon.hmp.tables.hx import HxError
from qmon.hmp.tables.topics import Row, find_topic, read_topics

TEXT = """\
.. A comment
   of two lines.

flying
------

Leave the ground.

.. also: fly, wing

take_off, info wings
  begin; look
  around

::

  (qemu) take_off

  (qemu) land

land
  end

diving
------

Go under.

.. also: dive, wing
"""


def test_a_topic_has_rows_and_lines_to_type() -> None:
    flying, diving = read_topics(TEXT)
    assert (flying.name, flying.about, flying.also) == ("flying", "Leave the ground.", ("fly", "wing"))
    assert flying.rows == [
        Row(("take_off", "info wings"), "begin; look around", True),
        Row(("land",), "end", False),
    ]
    assert flying.text == "(qemu) take_off\n\n(qemu) land"
    assert (diving.about, diving.rows, diving.text) == ("Go under.", [], "")


def test_a_topic_is_found_by_the_most_words() -> None:
    topics = read_topics(TEXT)
    for text, name in ("fly", "flying"), ("wing", "flying"), ("dive fly wing diving", "diving"):
        found = find_topic(topics, text.split())
        assert found is not None
        assert found.name == name
    assert find_topic(topics, ["walk"]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A sentence.\n", "help.rst:1: expected a title"),
        ("a\n-\n\none\ntwo\n", "help.rst:4: expected a sentence or lines with what they do, found 'one'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(HxError, match=said):
        read_topics(text)
