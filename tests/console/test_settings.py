"""The console's tables of the configuration file: what is right is used, what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.console.settings import TABLES, Settings, read_settings
from qmon.console.style import PARTS
from qmon.program.user_config import CONSOLE_TABLES


def test_what_is_written_is_used() -> None:
    tables: dict[str, dict[str, Any]] = {
        "console": {"keys": "vi", "bell": False, "plain": True, "toolbar": False},
        "colours": {"prompt": "bold #ff8800"},
        "bindings": {"f5": "info migrate", "c-x c-k": "stop"},
    }
    settings = Settings(
        keys="vi",
        bell=False,
        plain=True,
        toolbar=False,
        colours=tables["colours"],
        bindings=tables["bindings"],
    )
    assert read_settings(tables) == (settings, [])
    assert read_settings({}) == (Settings(), [])


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"console": 1}, "console: expected a table, found 1"),
        ({"console": {"keys": "nano"}}, 'console.keys: expected "emacs" or "vi", found \'nano\''),
        ({"console": {"keys": ["vi"]}}, 'console.keys: expected "emacs" or "vi", found [\'vi\']'),
        ({"console": {"bell": "yes"}}, "console.bell: expected true or false, found 'yes'"),
        ({"console": {"toolbr": True}}, "console.toolbr: unknown key: did you mean 'toolbar'?"),
        ({"colours": {"promt": "bold"}}, "colours.promt: unknown key: did you mean 'prompt'?"),
        ({"colours": {"prompt": 3}}, 'colours.prompt: expected a style such as "bold ansired", found 3'),
        (
            {"colours": {"prompt": "bold pnik"}},
            "colours.prompt: expected a style such as \"bold ansired\", found 'bold pnik'",
        ),
        ({"bindings": {"a": "stop"}}, 'bindings.a: expected a free key such as "f5" or "c-t"'),
        ({"bindings": {"c-c": "stop"}}, 'bindings.c-c: expected a free key such as "f5" or "c-t"'),
        ({"bindings": {"enter": "stop"}}, 'bindings.enter: expected a free key such as "f5" or "c-t"'),
        ({"bindings": {"": "stop"}}, 'bindings.: expected a free key such as "f5" or "c-t"'),
        ({"bindings": {"f5": "  "}}, "bindings.f5: expected a line to run, found '  '"),
        ({"bindings": {"f5": "stop\ncont"}}, "bindings.f5: expected a line to run, found 'stop\\ncont'"),
    ],
)
def test_what_is_wrong_is_named_and_left_out(tables: dict[str, Any], said: str) -> None:
    assert read_settings(tables) == (Settings(), [said])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*PARTS, "keys", "bell", "f5", "c-x"]) | st.text()


@given(st.dictionaries(st.sampled_from(TABLES), values | st.dictionaries(names, values)))
def test_nothing_in_the_file_raises(tables: dict[str, Any]) -> None:
    settings, wrong = read_settings(tables)
    assert all("\n" not in line for line in wrong)
    assert settings.keys in ("emacs", "vi")


def test_the_program_hands_over_all_tables() -> None:
    assert TABLES == CONSOLE_TABLES
