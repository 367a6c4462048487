"""The figures of a migration: what the source tells, and what a destination takes from it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.commands.migration_form import Facts, form_lines
from qmon.hmp.commands.migration_info import migration_lines
from qmon.hmp.migration_words import amount, end, pace
from qmon.notation.plain_text import one_line
from qmon.remote.migration.report import merged, read_figures, whole
from tests.support.fake_pair import DONE, RUNNING

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SIZE = st.integers(-1, 1 << 70) | JSON
SIZES = st.dictionaries(st.sampled_from(["total", "remaining", "transferred", "page-size", "drive"]), SIZE)
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "disk": SIZES | JSON,
        "ram": SIZES | JSON,
        "x-qmon-disks": st.lists(SIZES | JSON, max_size=3) | JSON,
        "x-qmon-stays-behind": st.lists(JSON, max_size=3) | JSON,
        "x-qmon-not-converging": JSON
        | st.fixed_dictionaries({"reason": JSON, "parameter": JSON, "value": SIZE}),
        "x-qmon-verified": JSON,
        "total-time": SIZE,
        "downtime": SIZE,
        "x-qmon-remaining-time": SIZE,
    },
)


def test_what_a_source_tells_arrives() -> None:
    for info in (RUNNING, DONE):
        found = read_figures(json.loads(json.dumps(info)))
        ours = ("status", "x-qmon-side", "x-qmon-id", "x-qmon-peer", "x-qmon-waits")
        assert found == {name: value for name, value in info.items() if name not in ours}


@given(FIGURES)
def test_whatever_a_source_tells_can_be_shown(figures: dict[str, Any]) -> None:
    found = read_figures(figures)
    for info in (found, whole(found)):
        shown = {**info, "status": "active", "x-qmon-side": "destination"}
        amount(shown)
        texts = [pace(shown), *migration_lines(shown), *form_lines(Facts(shown, {}), 80)]
        texts += end({**shown, "status": "completed"})
        assert all(one_line(text) == text for text in texts)


def test_a_plan_and_figures_are_joined_by_the_drives_names() -> None:
    plan = {"x-qmon-disks": [{"drive": "d0", "transferred": 0, "matched-by": "order"}]}
    assert merged(plan, {}) == plan
    figures = {"x-qmon-disks": [{"drive": "d0", "transferred": 5, "remaining": 0, "total": 5}]}
    assert merged(plan, figures)["x-qmon-disks"] == [{**figures["x-qmon-disks"][0], "matched-by": "order"}]
