"""The offer: what a source proposes is read or refused, and a misfit is told so that it can be put right."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.wire import answers
from qmon.migration.wire.fit import check_fit
from qmon.migration.wire.offer import (
    MAX_SAMPLES,
    Amount,
    BackingOffer,
    DriveOffer,
    Mode,
    Offer,
    OfferError,
    Sample,
)

ids = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,20}", fullmatch=True)
sizes = st.integers(0, 1 << 62)
drives = st.builds(DriveOffer, ids, sizes, st.booleans()) | st.builds(
    lambda name, numbers: DriveOffer(name, numbers[2], False, amount=Amount(*numbers[:2])),
    ids,
    st.tuples(sizes, sizes, sizes).map(sorted),
)
offers = st.builds(
    Offer,
    st.uuids(),
    st.sampled_from(Mode),
    st.lists(drives, max_size=5).map(tuple),
    empty=st.lists(ids, max_size=3).map(tuple),
)

ID = uuid.UUID(int=1)
GOOD: dict[str, Any] = {
    "id": ID.hex,
    "mode": "full",
    "drives": [{"id": "d0", "size": 512, "read_only": False}],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def refusal(payload: bytes) -> str | None:
    try:
        Offer.decode(payload)
    except OfferError as error:
        return str(error)
    return None


@given(offers)
def test_an_offer_is_read_as_it_was_made(offer: Offer) -> None:
    assert Offer.decode(offer.encode()) == offer


def test_fields_of_a_later_version_are_left_alone() -> None:
    more = {**GOOD, "later": 1, "drives": [{**GOOD["drives"][0], "later": 2}]}
    assert Offer.decode(json.dumps(more).encode()) == Offer(ID, Mode.FULL, (DriveOffer("d0", 512, False),))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    assert refusal(payload) != ""


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    said = refusal(json.dumps(value).encode())
    assert said is not None
    assert said.startswith("the source's offer can't be read: ")


@given(st.sampled_from(["id", "mode", "drives"]), json_values)
def test_any_value_of_a_field_is_read_or_refused(field: str, value: Any) -> None:
    said = refusal(json.dumps({**GOOD, field: value}).encode())
    assert said is None or said.isprintable()


@given(st.sampled_from(["id", "size", "read_only"]), json_values)
def test_any_value_of_a_drives_field_is_read_or_refused(field: str, value: Any) -> None:
    said = refusal(json.dumps({**GOOD, "drives": [{**GOOD["drives"][0], field: value}]}).encode())
    assert said is None or said.isprintable()


@pytest.mark.parametrize("drive", [{"size": -1}, {"size": 1.5}, {"size": True}, {"read_only": 0}, {"id": 5}])
def test_a_drive_that_makes_no_sense_is_refused(drive: dict[str, Any]) -> None:
    payload = json.dumps({**GOOD, "drives": [{**GOOD["drives"][0], **drive}]}).encode()
    assert (refusal(payload) or "").startswith(
        "the source's offer can't be read: invalid description of a drive"
    )


@pytest.mark.parametrize(
    "payload",
    [b"[" * 100_000, b'{"drives":' * 50_000, b"9" * 100_000, b"\xff\xfe\x00", b'{"id": NaN}', b""],
    ids=["nested lists", "nested objects", "a long number", "other encoding", "nan", "nothing"],
)
def test_json_that_is_meant_to_hurt_is_refused(payload: bytes) -> None:
    assert (refusal(payload) or "").startswith("the source's offer can't be read: ")


def test_a_refusal_is_a_line_that_can_be_read() -> None:
    """However much was sent, and whatever a terminal would make of it."""
    for name in ("x" * 500_000, "a\nb", "\x1b[2J", "\ud800"):
        payload = json.dumps({**GOOD, "drives": [{"id": name, "size": -1, "read_only": False}]}).encode()
        said = refusal(payload)
        assert said is not None
        assert said.isprintable()
        assert len(said) < 300


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\ud800", "x" * 500_000])
def test_a_name_that_could_not_be_shown_is_refused(name: str) -> None:
    """It would be, in the log and in the answer, as a drive that is missing here."""
    payload = json.dumps({**GOOD, "drives": [{"id": name, "size": 512, "read_only": False}]}).encode()
    said = refusal(payload)
    assert said is not None
    assert said.isprintable()
    assert len(said) < 300


class TestFit:
    HERE = (DriveOffer("d0", 1024, False), DriveOffer("d1", 2048, True))

    def misfit(self, *there: DriveOffer, mode: Mode = Mode.SHARED) -> str | None:
        try:
            check_fit(Offer(ID, mode, there), self.HERE)
        except OfferError as error:
            return str(error)
        return None

    @given(st.lists(drives, unique_by=lambda drive: drive.id), st.randoms())
    def test_the_same_drives_fit_in_any_order(self, there: list[DriveOffer], random: Any) -> None:
        here = list(there)
        random.shuffle(here)
        check_fit(Offer(ID, Mode.FULL, tuple(there)), here)

    @pytest.mark.parametrize(
        ("there", "said"),
        [
            ((DriveOffer("d0", 1024, False),), "the destination has a drive 'd1', but the source does not"),
            ((*HERE, DriveOffer("d2", 1, False)), "the destination has no drive 'd2': it has 'd0', 'd1'"),
            (
                (DriveOffer("d0", 512, False), HERE[1]),
                "drive 'd0' has 512 bytes at the source and 1024 at the destination: they must be equal",
            ),
            (
                (DriveOffer("d0", 1024, True), HERE[1]),
                "drive 'd0' is writable at the destination and read-only at the source",
            ),
            (
                (HERE[0], DriveOffer("d1", 2048, False)),
                "drive 'd1' is read-only at the destination and writable at the source",
            ),
            ((*HERE, HERE[0]), "the source's offer names drive 'd0' twice"),
            ((*HERE, HERE[1]), "the source's offer names drive 'd1' twice"),
        ],
    )
    def test_a_misfit_is_named(self, there: tuple[DriveOffer, ...], said: str) -> None:
        assert self.misfit(*there) == said

    @pytest.mark.parametrize("mode", [Mode.FULL, Mode.INCREMENTAL])
    def test_a_drive_that_is_writable_at_the_destination_alone_takes_a_copy(self, mode: Mode) -> None:
        assert self.misfit(DriveOffer("d0", 1024, True), self.HERE[1], mode=mode) is None

    def test_all_misfits_are_told_at_once(self) -> None:
        there = (DriveOffer("d0", 512, True), DriveOffer("other", 1, False))
        assert self.misfit(*there) == (
            "the destination does not match, for 4 reasons: (1) drive 'd0' has 512 bytes at the source and"
            " 1024 at the destination: they must be equal; (2) drive 'd0' is writable at the destination and"
            " read-only at the source; (3) the destination has no drive 'other': it has 'd0', 'd1'; (4) the"
            " destination has a drive 'd1', but the source does not"
        )

    @pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f4be"])
    def test_misfits_that_fill_no_line_are_counted(self, letter: str) -> None:
        said = self.misfit(*(DriveOffer(f"{letter * 200}{number}", 1, False) for number in range(500)))
        assert said is not None
        assert len(answers.refused(said)) < 4096
        assert re.search(r"; and \d+ more$", said)

    def test_a_medium_that_is_missing_on_one_side_is_named(self) -> None:
        there = (DriveOffer("d0", 1024, False), DriveOffer("cd0", 2048, True))
        with pytest.raises(OfferError, match="drive 'cd0' has a medium at the source and none at the"):
            check_fit(Offer(ID, Mode.FULL, there), self.HERE[:1], empty=["cd0"])
        with pytest.raises(OfferError, match="drive 'd1' has no medium at the source and one at the"):
            check_fit(Offer(ID, Mode.FULL, self.HERE[:1], empty=("d1",)), self.HERE)
        check_fit(Offer(ID, Mode.FULL, self.HERE[:1], empty=("cd0",)), self.HERE[:1], empty=["cd0"])

    def test_a_destination_without_drives_says_so(self) -> None:
        with pytest.raises(OfferError, match="the destination has no drive 'd0': it has none"):
            check_fit(Offer(ID, Mode.FULL, self.HERE), [])


@pytest.mark.parametrize("amount", [None, 5, [1], [1, 2, 3], [-1, 5], [3, 2], [0, 513], [0, 1.5], [True, 1]])
def test_an_amount_of_data_that_makes_no_sense_is_refused(amount: Any) -> None:
    payload = json.dumps({**GOOD, "drives": [{**GOOD["drives"][0], "amount": amount}]}).encode()
    assert (refusal(payload) or "").startswith("the source's offer can't be read: ")


class TestBacking:
    """What a drive's overlay is over, for an incremental copy."""

    @given(
        st.integers(0, 1 << 62),
        st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100), st.text(max_size=8)), max_size=6),
    )
    def test_it_is_read_as_it_was_made(self, size: int, spans: list[tuple[int, int, str]]) -> None:
        samples, end = [], 0
        for length, gap, checksum in spans:
            samples.append(Sample(end + gap, length, checksum))
            end += gap + length
        backing = BackingOffer(max(size, end), tuple(samples))
        offer = Offer(ID, Mode.INCREMENTAL, (DriveOffer("d0", 512, False, backing, content=backing),))
        assert Offer.decode(offer.encode()) == offer

    @pytest.mark.parametrize(
        "backing",
        [
            None,
            {"size": 512},
            {"size": -1, "samples": []},
            {"size": 512, "samples": {}},
            {"size": 512, "samples": [[0, 512]]},
            {"size": 512, "samples": [[0, 512, 5]]},
            {"size": 512, "samples": [[0, 0, "a"]]},
            {"size": 512, "samples": [[-1, 5, "a"]]},
            {"size": 512, "samples": [[0, 513, "a"]]},
            {"size": 512, "samples": [[0, True, "a"]]},
            {"size": 1024, "samples": [[0, 512, "a"], [511, 512, "b"]]},
            {"size": 1 << 20, "samples": [[number, 1, "a"] for number in range(MAX_SAMPLES + 1)]},
        ],
    )
    def test_one_that_makes_no_sense_is_refused(self, backing: Any) -> None:
        for key in ("backing", "content"):
            drive = {**GOOD["drives"][0], key: backing}
            said = refusal(json.dumps({**GOOD, "mode": "incremental", "drives": [drive]}).encode())
            assert (said or "").startswith("the source's offer can't be read: ")

    @given(json_values)
    def test_any_value_is_read_or_refused(self, value: Any) -> None:
        drive = {**GOOD["drives"][0], "backing": value}
        said = refusal(json.dumps({**GOOD, "drives": [drive]}).encode())
        assert said is not None
        assert said.isprintable()

    @pytest.mark.parametrize("mode", [Mode.FULL, Mode.SHARED])
    def test_it_matters_only_to_an_incremental_copy(self, mode: Mode) -> None:
        there, here = DriveOffer("d0", 512, False), DriveOffer("d0", 512, False, BackingOffer(512))
        check_fit(Offer(ID, mode, (there,)), [here])
        with pytest.raises(OfferError, match="has a backing image at the destination and none at the source"):
            check_fit(Offer(ID, Mode.INCREMENTAL, (there,)), [here])

    def test_a_read_only_drive_does_not_travel_whatever_is_behind_it(self) -> None:
        there, here = DriveOffer("d0", 512, True), DriveOffer("d0", 512, True, BackingOffer(512))
        check_fit(Offer(ID, Mode.INCREMENTAL, (there,)), [here])
