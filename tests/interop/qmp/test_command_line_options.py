"""``query-command-line-options`` names what QEMU 7.2 names, and qmon's options take it."""

from __future__ import annotations

from typing import Any

from qmon.notation.drive_keys import is_known_key
from qmon.notation.option_groups import option_groups
from tests.support.qmp_both import Both

OURS = [each["option"] for each in option_groups()]


def without_help(options: Any) -> Any:
    return [
        {**each, "parameters": [{**one, "help": ""} for one in each["parameters"]]}
        for each in options
        if each["option"] in OURS
    ]


def test_each_option_has_qemus_parameters(both: Both) -> None:
    theirs, ours = (side.run("query-command-line-options") for side in (both.qemu, both.qmon))
    assert without_help(ours) == without_help(theirs)


def test_one_option_can_be_asked_for(both: Both) -> None:
    both.agree_on("query-command-line-options", option="object")
    both.agree_on("query-command-line-options", option="nosuch")
    both.agree_on("query-command-line-options", option=5)
    assert both.qmon.run("query-command-line-options", option="mon")[0]["option"] == "mon"


def test_a_drive_takes_what_is_named() -> None:
    (drive,) = (each for each in option_groups() if each["option"] == "drive")
    assert [one["name"] for one in drive["parameters"] if not is_known_key(one["name"])] == []
