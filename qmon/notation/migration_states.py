"""Says what the states of a migration mean that do not explain themselves, for charts and reports. Pure."""

from __future__ import annotations

_MEANINGS = {
    "pre-switchover": "guests wait for migrate_continue",
    "switchover": "guests wait, the rest is sent",
    "prepared": "the destination has every byte",
    "gone": "the destination is told to run",
    "doubt": "it is not known whether the destination runs",
    "settled": "the source knows that the destination runs",
    "written": "everything is sent, and no answer is expected",
    "ordered": "what was sent is told to run",
    "unconfirmed": "nobody has confirmed that it arrived",
    "continued": "the machine was continued here",
}


def explained(state: str) -> str:
    """Return a state with its meaning: ``gone: the destination is told to run``; others as they are."""
    return f"{state}: {_MEANINGS[state]}" if state in _MEANINGS else state
