"""Random settings of migrations to a real QEMU and to qmon: the same answers and the same listings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, Kind
from tests.support.images import MIB, blank, drive, filled
from tests.support.peers import require
from tests.support.processes import Lab, migrated
from tests.support.thoroughness import examples
from tests.support.two_monitors import TwoMonitors, differing, told

NAMES = [row.name for row in PARAMETERS if not row.later]
BY_QMP = [*(name for name in NAMES if name not in ("multifd-zlib-level", "multifd-zstd-level")), "nosuch"]
"""QEMU 7.2 takes the two levels, but forgets them at once."""
SWITCHES = [row.name for row in CAPABILITIES if not row.later]
DEFAULTS = {row.name: row.default for row in PARAMETERS if not row.later and row.kind is not Kind.MAPPING}
ALL_OFF = {"capabilities": [{"capability": name, "state": False} for name in SWITCHES]}
LISTINGS = ["info migrate_parameters", "info migrate_capabilities"]

EDGES = [
    int(each)
    for each in """
    0 1 2 9 10 20 50 99 100 101 128 255 256 1000 1001 4095 4096 10000 10001 65536
    100000 100001 2000000 2000001
    """.split()
]
EDGES += [1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -1, -5]
ODD_WORDS = """
    on off yes no true y n On maybe none zlib zstd None inf nan 1e3 1.5e3 .5k 1. 1.k 0x 0x10 0X1F 0x1k
    0x1.8k 00x10 010 08 +5 +-5 --5 -0 -18446744073709551615 tls0
""".split()
ODD_WORDS += ["", " 5", "5 ", " +0x5k"]
"""Where a range of some parameter begins or ends."""

edges = st.sampled_from(EDGES)
words = st.one_of(
    edges.map(str),
    st.builds("{}{}".format, edges, st.sampled_from("bkKmMgGtTpPeEzZ.")),
    st.builds("{}.{}{}".format, edges, st.integers(0, 99_999), st.sampled_from(["", *"bkKMGTPe"])),
    st.sampled_from(ODD_WORDS),
    st.text(st.sampled_from("0123456789xXabfkKmMeEbB.+- "), max_size=8),
)
names = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(["", "nosuch", "max_bandwidth"])
)
switches = st.one_of(
    st.sampled_from(SWITCHES), st.sampled_from(SWITCHES), st.sampled_from(["nosuch", "Block"])
)
lines = st.one_of(
    st.builds('migrate_set_parameter {} "{}"'.format, names.map(lambda name: name or '""'), words),
    st.builds("migrate_set_capability {} {}".format, switches, st.sampled_from(["on", "on", "off", "maybe"])),
)
values = st.one_of(
    edges,
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["", "on", "none", "zstd", "5", "tls0"]),
    st.just([]),
    st.just({}),
    st.just([{"node-name": "d0", "alias": "disk", "bitmaps": [{"name": "b0", "alias": "b1"}]}]),
)


class Four:
    """A QEMU and a qmon, each with its monitor and QMP."""

    def __init__(self, folder: Path) -> None:
        self.monitors = TwoMonitors(folder)
        self.qemu, self.qmon = self.monitors.theirs.qmp(), self.monitors.ours.qmp()

    def agree(self, command: str, arguments: dict[str, Any]) -> None:
        theirs, ours = self.qemu.ask(command, arguments), self.qmon.ask(command, arguments)
        assert ours == theirs, json.dumps(arguments)

    def reset(self) -> None:
        for side in (self.qemu, self.qmon):
            assert side.ask("migrate-set-capabilities", ALL_OFF) == {"return": {}}
            assert side.ask("migrate-set-parameters", DEFAULTS) == {"return": {}}

    def close(self) -> None:
        self.qemu.close()
        self.qmon.close()
        self.monitors.close()


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    require("qemu-system-x86_64", "qemu-img")
    four = Four(tmp_path_factory.mktemp("settings"))
    yield four
    four.close()


QUICKLY = settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICKLY
@given(given_lines=st.lists(lines, min_size=1, max_size=10))
@example(
    given_lines=["migrate_set_parameter max-bandwidth 1.0009k", "migrate_set_parameter announce-max 0x1k"]
)
@example(given_lines=[f"migrate_set_parameter announce-max {1 << 64}{end}" for end in ("", "b", ".", "k")])
@example(given_lines=["migrate_set_parameter announce-max 16E", "migrate_set_parameter announce-max 16Ez"])
@example(given_lines=["migrate_set_capability multifd on", "migrate_set_capability zero-copy-send on"])
def test_lines_set_what_they_set_in_qemu(four: Four, given_lines: list[str]) -> None:
    four.reset()
    found = differing(four.monitors, [*given_lines, *LISTINGS])
    assert not found, told(found)


@QUICKLY
@given(st.lists(st.dictionaries(st.sampled_from(BY_QMP), values, max_size=3), max_size=6))
def test_parameters_by_qmp_are_taken_and_refused_as_in_qemu(
    four: Four, changes: list[dict[str, Any]]
) -> None:
    four.reset()
    for change in changes:
        bandwidth = change.get("max-bandwidth")
        if isinstance(bandwidth, int) and bandwidth < 0:
            change["max-bandwidth"] = 0  # refused by qmon: QEMU takes it for no limit to speak of
        four.agree("migrate-set-parameters", change)
    four.agree("query-migrate-parameters", {})


@QUICKLY
@given(st.lists(st.lists(st.tuples(switches, st.booleans()), max_size=8), max_size=6))
def test_combinations_of_capabilities_are_taken_and_refused_as_in_qemu(
    four: Four, changes: list[list[tuple[str, bool]]]
) -> None:
    four.reset()
    for change in changes:
        four.agree(
            "migrate-set-capabilities",
            {"capabilities": [{"capability": name, "state": state} for name, state in change]},
        )
    four.agree("query-migrate-capabilities", {})


@pytest.mark.parametrize(
    "capabilities",
    [
        5,
        [5],
        [{}],
        [{"capability": "xbzrle"}],
        [{"capability": "xbzrle", "state": "on"}],
        [{"capability": "xbzrle", "state": True, "more": 1}],
        [{"capability": 5, "state": True}],
        [{"capability": "x", "state": True}],
    ],
    ids=str,
)
def test_what_is_no_capability_is_told_as_in_qemu(four: Four, capabilities: Any) -> None:
    four.agree("migrate-set-capabilities", {"capabilities": capabilities})


ALIASES = ("a", "b", "", "9x", "x" * 256, "a b")


@QUICKLY
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "node-name": st.sampled_from("ab"),
                "alias": st.sampled_from(ALIASES),
                "bitmaps": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["n", "m", "n" * 1024]), "alias": st.sampled_from(ALIASES)}
                    ),
                    max_size=2,
                ),
            }
        ),
        max_size=3,
    )
)
def test_names_for_bitmaps_are_checked_as_in_qemu(four: Four, mapping: list[dict[str, Any]]) -> None:
    four.agree("migrate-set-parameters", {"block-bitmap-mapping": mapping})
    four.agree("query-migrate-parameters", {})
    found = differing(four.monitors, LISTINGS[:1])
    assert not found, told(found)


FAMILY = """\
migrate_continue none
migrate_continue active
migrate_continue nosuch
migrate_continue ""
migrate_pause
migrate_recover unix:x
migrate_start_postcopy
migrate_set_capability postcopy-ram on
migrate_start_postcopy
migrate_set_capability postcopy-ram off
x_colo_lost_heartbeat
info dirty_rate
set_vcpu_dirty_limit 1
set_vcpu_dirty_limit 1 0
cancel_vcpu_dirty_limit
cancel_vcpu_dirty_limit 0
info vcpu_dirty_limit
client_migrate_info spice localhost
announce_self
announce_self a,b id
migrate_set_capability block on
migrate -d -b unix:nowhere
migrate_set_capability block off
migrate_set_capability x-colo on
migrate -d -b unix:nowhere
migrate_set_capability x-colo off
migrate -r unix:nowhere
info migrate
""".splitlines()


def test_the_family_answers_as_qemu_does(four: Four) -> None:
    four.reset()
    found = differing(four.monitors, FAMILY)
    assert not found, told(found)


def test_a_migration_that_is_over_has_all_of_qemus_figures(four: Four, lab: Lab) -> None:
    require("qemu-system-x86_64")
    image, empty = filled(lab.folder / "source.img", MIB), blank(lab.folder / "target.img", MIB)
    source, target, uri = lab.pair(drive(image), drive(empty))
    waiting = target.command("info migrate").splitlines()
    assert waiting[-3:] == ["socket address: [", f"\t{uri}", "]"]
    migrated(source, target, f"migrate -d -b {uri}")
    four.reset()
    assert four.monitors.theirs.lines('migrate -d -b "exec:cat >/dev/null"') == ()
    theirs: list[str] = []
    while "Migration status: completed" not in theirs:
        theirs = list(four.monitors.theirs.lines("info migrate"))
        assert "Migration status: failed" not in theirs
    figures = [row.split(":")[0] for row in source.command("info migrate").splitlines()]
    disk = [row for row in figures if row.endswith(" disk")]
    assert disk == ["transferred disk", "remaining disk", "total disk"]
    wanted = [row.split(":")[0] for row in theirs if row]
    ram_only = {"precopy ram", "downtime ram"}
    assert [row for row in figures if row not in disk] == [row for row in wanted if row not in ram_only]
