"""The handshake's promises, byte by byte: what a client sends, split anywhere, and what it gets."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.nbd.constants import (
    CLIENT_FLAGS,
    IHAVEOPT,
    MAX_STRING,
    OPTION,
    OPTION_REPLY,
    Info,
    Option,
    OptionReply,
    TransmissionFlag,
)
from qmon.nbd.export import Export
from qmon.nbd.handshake import (
    MAX_OPTION_DATA,
    MAX_OPTIONS,
    MAX_REPLIES,
    MAX_SKIPPED,
    Handshake,
    ProtocolError,
)
from tests.support.memory import MemoryDisk
from tests.support.nbd_client import context_data, go_data, option, string
from tests.support.thoroughness import examples

FLAGS = CLIENT_FLAGS.pack(3)
SIZE = 3 << 20
BLOCK_SIZES = struct.pack(">HIII", Info.BLOCK_SIZE, 1, 4096, 32 << 20)


def handshake(*names: str, writable: bool = True, description: str = "") -> Handshake:
    exports = {name: Export(name, MemoryDisk(SIZE), writable, description) for name in names}
    return Handshake(lambda: exports)


def feed(shake: Handshake, *parts: bytes) -> list[tuple[int, int, bytes]]:
    """Feed bytes and return the replies: option, type, data."""
    return parse(b"".join(shake.feed(part) for part in parts))


def parse(replies: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while replies:
        _, number, kind, length = OPTION_REPLY.unpack_from(replies)
        end = OPTION_REPLY.size + length
        found.append((number, kind, replies[OPTION_REPLY.size : end]))
        replies = replies[end:]
    return found


def error_of(replies: Sequence[tuple[int, int, bytes]]) -> tuple[int, str]:
    ((_, kind, data),) = replies
    return kind, data.decode()


def test_the_greeting_is_fixed_newstyle_without_zeroes() -> None:
    assert handshake().greeting() == b"NBDMAGIC" + b"IHAVEOPT" + b"\x00\x03"


def test_go_tells_size_and_flags_and_ends_the_handshake() -> None:
    shake = handshake("d0")
    replies = feed(shake, FLAGS, option(Option.GO, go_data("d0")))
    flags = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    assert replies == [
        (Option.GO, OptionReply.INFO, struct.pack(">HQH", 0, SIZE, flags)),
        (Option.GO, OptionReply.INFO, BLOCK_SIZES),
        (Option.GO, OptionReply.ACK, b""),
    ]
    assert shake.agreement is not None
    assert (shake.agreement.export.name, shake.agreement.structured, bool(shake.agreement.contexts)) == (
        "d0",
        False,
        False,
    )


def test_a_read_only_export_says_so_and_offers_nothing_that_writes() -> None:
    replies = feed(handshake("d0", writable=False), FLAGS, option(Option.GO, go_data("d0")))
    (flags,) = struct.unpack_from(">H", replies[0][2], 10)
    assert flags & TransmissionFlag.READ_ONLY
    assert not flags & (TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES)


def test_a_read_only_disk_is_read_only_whatever_its_export_says() -> None:
    exports = {"d0": Export("d0", MemoryDisk(SIZE, read_only=True), writable=True)}
    shake = Handshake(lambda: exports)
    replies = feed(shake, FLAGS, option(Option.GO, go_data("d0")))
    (flags,) = struct.unpack_from(">H", replies[0][2], 10)
    assert flags & TransmissionFlag.READ_ONLY


def test_infos_that_are_asked_for_are_sent() -> None:
    infos = (Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE, 77)
    replies = feed(handshake("d0", description="a disk"), FLAGS, option(Option.INFO, go_data("", *infos)))
    assert [data for _, kind, data in replies if kind == OptionReply.INFO][1:] == [
        b"\x00\x01d0",
        b"\x00\x02a disk",
        BLOCK_SIZES,
    ]
    assert replies[-1][1] == OptionReply.ACK


def test_description_and_block_sizes_are_sent_to_all_as_qemu_does() -> None:
    replies = feed(handshake("d0", description="a disk"), FLAGS, option(Option.INFO, go_data("d0")))
    assert [data for _, kind, data in replies if kind == OptionReply.INFO][1:] == [
        b"\x00\x02a disk",
        BLOCK_SIZES,
    ]


def test_info_leaves_the_handshake_going_on() -> None:
    shake = handshake("d0")
    feed(shake, FLAGS, option(Option.INFO, go_data("d0")))
    assert shake.agreement is None
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None


@pytest.mark.parametrize(("client_flags", "zeroes"), [(1, 124), (3, 0), (0, 124)])
def test_export_name_is_followed_by_zeroes_unless_the_client_wants_none(
    client_flags: int, zeroes: int
) -> None:
    shake = handshake("d0")
    reply = shake.feed(CLIENT_FLAGS.pack(client_flags) + option(Option.EXPORT_NAME, b"d0"))
    assert reply[:8] == struct.pack(">Q", SIZE)
    assert reply[10:] == bytes(zeroes)
    assert shake.agreement is not None


def test_what_follows_the_last_option_is_kept_for_the_transmission_phase() -> None:
    shake = handshake("d0")
    shake.feed(FLAGS + option(Option.GO, go_data("d0")) + b"requests")
    assert shake.agreement is not None
    assert shake.agreement.rest == b"requests"


def test_list_names_every_export_with_its_description() -> None:
    replies = feed(handshake("d0", "ä1", description="a disk"), FLAGS, option(Option.LIST))
    assert [data for _, kind, data in replies if kind == OptionReply.SERVER] == [
        string("d0") + b"a disk",
        string("ä1") + b"a disk",
    ]
    assert replies[-1][1] == OptionReply.ACK


def test_abort_is_acknowledged_and_ends_everything() -> None:
    shake = handshake("d0")
    assert feed(shake, FLAGS, option(Option.ABORT, b"bye")) == [(Option.ABORT, OptionReply.ACK, b"")]
    assert shake.finished
    assert shake.feed(option(Option.LIST)) == b""


@pytest.mark.parametrize("number", [Option.INFO, Option.GO])
def test_an_unknown_name_is_told_with_the_names_there_are(number: int) -> None:
    kind, text = error_of(feed(handshake("d0", "d1"), FLAGS, option(number, go_data("nope"))))
    assert kind == OptionReply.ERR_UNKNOWN
    assert text == "export 'nope' not present; exports here: 'd0', 'd1'"


def test_an_unknown_export_name_can_only_be_hung_up_on() -> None:
    with pytest.raises(ProtocolError, match="export 'nope' not present; exports here: none"):
        handshake().feed(FLAGS + option(Option.EXPORT_NAME, b"nope"))


@pytest.mark.parametrize(
    ("names", "found"), [(["d0"], "d0"), (["", "d0"], ""), (["d0", "d1"], None), ([], None)]
)
def test_the_empty_name_is_the_only_export(names: list[str], found: str | None) -> None:
    shake = handshake(*names)
    feed(shake, FLAGS, option(Option.GO, go_data("")))
    assert (shake.agreement.export.name if shake.agreement else None) == found


def test_an_export_whose_disk_has_moved_is_refused_as_shut_down() -> None:
    disk = MemoryDisk()
    disk.gate.shut()
    shake = Handshake(lambda: {"d0": Export("d0", disk, writable=True)})
    kind, text = error_of(feed(shake, FLAGS, option(Option.GO, go_data("d0"))))
    assert (kind, text) == (OptionReply.ERR_SHUTDOWN, "the disk of export 'd0' has moved to another host")


@pytest.mark.parametrize(
    ("number", "reply"),
    [
        (Option.STARTTLS, OptionReply.ERR_POLICY),
        *((number, OptionReply.ERR_UNSUP) for number in (12, 4, 99)),
    ],
)
def test_what_is_not_offered_is_refused_and_the_client_goes_on(number: int, reply: int) -> None:
    shake = handshake("d0")
    kind, _ = error_of(feed(shake, FLAGS, option(number)))
    assert kind == reply
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (Option.LIST, b"x"),
        (Option.STRUCTURED_REPLY, b"x"),
        (Option.GO, b""),
        (Option.GO, string("d0")),
        (Option.GO, go_data("d0") + b"x"),
        (Option.GO, go_data("d0")[:-1]),
        (Option.GO, struct.pack(">I", 1 << 31) + b"d0"),
        (Option.GO, string("x" * (MAX_STRING + 1)) + b"\0\0"),
        (Option.GO, string("d0") + struct.pack(">HH", 2, 3)),
        (Option.SET_META_CONTEXT, context_data("d0", "base:allocation")),
    ],
)
def test_options_with_wrong_data_are_invalid_and_the_client_goes_on(number: int, data: bytes) -> None:
    shake = handshake("d0")
    kind, _ = error_of(feed(shake, FLAGS, option(number, data)))
    assert kind == OptionReply.ERR_INVALID
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None


def test_extended_headers_are_negotiated_once_and_take_precedence() -> None:
    shake = handshake("d0")
    shake.feed(FLAGS)
    options = [
        option(Option.EXTENDED_HEADERS, b"x"),
        option(Option.EXTENDED_HEADERS),
        option(Option.EXTENDED_HEADERS),
        option(Option.STRUCTURED_REPLY),
    ]
    kinds = [feed(shake, each)[0][1] for each in options]
    assert kinds == [
        OptionReply.ERR_INVALID,
        OptionReply.ACK,
        OptionReply.ERR_INVALID,
        OptionReply.ERR_EXT_HEADER_REQD,
    ]
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None
    assert shake.agreement.extended
    assert shake.agreement.structured


def test_extended_headers_need_go() -> None:
    with pytest.raises(ProtocolError, match="which need GO"):
        handshake("d0").feed(FLAGS + option(Option.EXTENDED_HEADERS) + option(Option.EXPORT_NAME, b"d0"))


@pytest.mark.parametrize(("contexts", "is_offered"), [(["base:allocation"], True), ([], False)])
def test_a_choice_of_contexts_is_offered_to_who_has_selected_some(
    contexts: list[str], is_offered: bool
) -> None:
    shake = handshake("d0")
    feed(shake, FLAGS, option(Option.EXTENDED_HEADERS))
    feed(shake, option(Option.SET_META_CONTEXT, context_data("d0", *contexts)))
    replies = feed(shake, option(Option.GO, go_data("d0")))
    (flags,) = struct.unpack_from(">H", replies[0][2], 10)
    assert bool(flags & TransmissionFlag.BLOCK_STATUS_PAYLOAD) == is_offered
    assert flags & TransmissionFlag.SEND_DF


def test_structured_replies_are_negotiated_once() -> None:
    shake = handshake("d0")
    _, again = feed(shake, FLAGS, option(Option.STRUCTURED_REPLY), option(Option.STRUCTURED_REPLY))
    assert again[1] == OptionReply.ERR_INVALID
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None
    assert shake.agreement.structured


@pytest.mark.parametrize("number", [Option.LIST, Option.GO, 99])
def test_only_an_export_name_is_taken_without_fixed_newstyle(number: int) -> None:
    with pytest.raises(ProtocolError, match="needs the fixed newstyle negotiation"):
        handshake("d0").feed(CLIENT_FLAGS.pack(0) + option(number))


def test_option_data_longer_than_any_request_is_hung_up_on() -> None:
    with pytest.raises(ProtocolError, match="an option with 33554433 bytes of data is too long"):
        handshake("d0").feed(FLAGS + OPTION.pack(IHAVEOPT, 99, MAX_SKIPPED + 1))


def test_a_client_that_never_chooses_is_hung_up_on() -> None:
    shake = handshake("d0")
    shake.feed(FLAGS)
    for _ in range(MAX_OPTIONS):
        assert shake.feed(option(99))
    with pytest.raises(ProtocolError, match="more than 4096 options"):
        shake.feed(option(99))


def test_an_error_text_is_cut_between_two_characters() -> None:
    name = "x" + "ä" * 2047
    _, text = error_of(feed(handshake("d0"), FLAGS, option(Option.GO, go_data(name))))
    assert MAX_STRING - 2 < len(text.encode()) <= MAX_STRING


def test_an_option_that_is_too_long_is_skipped_to_its_end_and_refused() -> None:
    shake = handshake("d0")
    replies = feed(shake, FLAGS, OPTION.pack(IHAVEOPT, Option.LIST, MAX_OPTION_DATA + 10))
    assert error_of(replies)[0] == OptionReply.ERR_TOO_BIG
    feed(shake, bytes(MAX_OPTION_DATA), bytes(10) + option(Option.GO, go_data("d0")))
    assert shake.agreement is not None


def test_structured_replies_bring_reads_that_are_not_fragmented() -> None:
    shake = handshake("d0")
    replies = feed(shake, FLAGS, option(Option.STRUCTURED_REPLY), option(Option.GO, go_data("d0")))
    (flags,) = struct.unpack_from(">H", replies[1][2], 10)
    assert flags & TransmissionFlag.SEND_DF
    assert shake.agreement is not None
    assert shake.agreement.structured


CONTEXT = b"base:allocation"


def test_contexts_are_listed_before_structured_replies_but_not_selected() -> None:
    wanted = context_data("d0", "base:allocation")
    shake = handshake("d0")
    listed = feed(shake, FLAGS, option(Option.LIST_META_CONTEXT, wanted))
    assert [kind for _, kind, _ in listed] == [OptionReply.META_CONTEXT, OptionReply.ACK]
    assert error_of(feed(shake, option(Option.SET_META_CONTEXT, wanted)))[0] == OptionReply.ERR_INVALID


@pytest.mark.parametrize(
    ("number", "queries", "found"),
    [
        (Option.LIST_META_CONTEXT, [], [struct.pack(">I", 0) + CONTEXT]),
        (Option.LIST_META_CONTEXT, ["base"], []),
        (Option.LIST_META_CONTEXT, [""], []),
        (Option.SET_META_CONTEXT, ["base:allocation"] * 2, [struct.pack(">I", 1) + CONTEXT]),
        (Option.LIST_META_CONTEXT, ["base:"], [struct.pack(">I", 0) + CONTEXT]),
        (Option.LIST_META_CONTEXT, ["x-other:thing"], []),
        (Option.SET_META_CONTEXT, [], []),
        (Option.SET_META_CONTEXT, ["base:"], []),
        (Option.SET_META_CONTEXT, ["qemu:dirty-bitmap:b"], []),
        (Option.SET_META_CONTEXT, ["x-a:b", "base:allocation"], [struct.pack(">I", 1) + CONTEXT]),
    ],
)
def test_metadata_contexts_are_found_by_their_queries(
    number: int, queries: Iterable[str], found: list[bytes]
) -> None:
    shake = handshake("d0")
    replies = feed(
        shake, FLAGS, option(Option.STRUCTURED_REPLY), option(number, context_data("d0", *queries))
    )[1:]
    assert [data for _, kind, data in replies if kind == OptionReply.META_CONTEXT] == found
    assert replies[-1][1] == OptionReply.ACK
    feed(shake, option(Option.GO, go_data("d0")))
    assert shake.agreement is not None
    assert bool(shake.agreement.contexts) == (number == Option.SET_META_CONTEXT and bool(found))


@pytest.mark.parametrize(
    "then",
    [
        context_data("d0"),
        context_data("nope", "base:allocation"),
        context_data("d0", "base:allocation")[:-1],
        context_data("d1", "base:allocation"),
    ],
    ids=["no queries", "unknown export", "cut short", "another export"],
)
def test_a_later_selection_replaces_the_first_even_when_it_fails(then: bytes) -> None:
    shake = handshake("d0", "d1")
    feed(
        shake,
        FLAGS,
        option(Option.STRUCTURED_REPLY),
        option(Option.SET_META_CONTEXT, context_data("d0", "base:allocation")),
        option(Option.SET_META_CONTEXT, then),
        option(Option.GO, go_data("d0")),
    )
    assert shake.agreement is not None
    assert not shake.agreement.contexts


@pytest.mark.parametrize("flags", [4, 1 << 31, 0xFFFFFFFF])
def test_unknown_client_flags_are_hung_up_on(flags: int) -> None:
    with pytest.raises(ProtocolError):
        handshake().feed(CLIENT_FLAGS.pack(flags))


OPTIONS = st.sampled_from(
    [
        option(Option.LIST),
        option(Option.STRUCTURED_REPLY),
        option(Option.INFO, go_data("d0", Info.BLOCK_SIZE)),
        option(Option.INFO, go_data("nope")),
        option(Option.LIST_META_CONTEXT, context_data("d0")),
        option(Option.SET_META_CONTEXT, context_data("d0", "base:allocation", "base:")),
        option(Option.STARTTLS),
        option(Option.GO, b"\0"),
        OPTION.pack(IHAVEOPT, 50, MAX_OPTION_DATA + 1) + bytes(MAX_OPTION_DATA + 1),
    ]
)


@given(st.lists(OPTIONS, max_size=5), st.data())
def test_replies_do_not_depend_on_how_the_bytes_arrive(options: list[bytes], data: st.DataObject) -> None:
    sent = FLAGS + b"".join(options) + option(Option.GO, go_data("d0")) + b"rest"
    whole = handshake("d0")
    expected = whole.feed(sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=20)))
    split = handshake("d0")
    got, rest = b"", b""
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        if split.agreement is None:
            got += split.feed(sent[start:end])
        else:
            rest += sent[start:end]
    assert got == expected
    assert whole.agreement is not None
    assert split.agreement is not None
    assert split.agreement.rest + rest == whole.agreement.rest == b"rest"


def test_many_short_options_make_no_long_heap_of_replies() -> None:
    shake = handshake(*(f"{number:02}" + "x" * 4000 for number in range(20)))
    rounds = [shake.feed(FLAGS + option(Option.LIST) * 200)]
    while reply := shake.feed(b""):
        rounds.append(reply)
    one_list = 20 * (OPTION_REPLY.size + 4 + 4002) + OPTION_REPLY.size
    assert sum(map(len, rounds)) == 200 * one_list
    assert max(map(len, rounds)) < MAX_REPLIES + one_list


@given(
    st.booleans(),
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.builds(option, st.integers(0, 12), st.binary(max_size=100)),
            OPTIONS,
        ),
        max_size=8,
    ),
)
def test_garbage_is_answered_or_hung_up_on(greeted: bool, parts: list[bytes]) -> None:
    shake = handshake("d0", "d1")
    with contextlib.suppress(ProtocolError):
        for part in [FLAGS] * greeted + parts:
            shake.feed(part)


RECORDINGS = [
    FLAGS + b"".join(options) + option(Option.GO, go_data("d0", Info.BLOCK_SIZE))
    for options in (
        # as libnbd 1.14, QEMU 10 and nbd-client send them
        [
            option(Option.STRUCTURED_REPLY),
            option(Option.SET_META_CONTEXT, context_data("d0", "base:allocation", "qemu:allocation-depth")),
        ],
        [
            option(Option.EXTENDED_HEADERS),
            option(Option.SET_META_CONTEXT, context_data("d0", "base:allocation")),
        ],
        [option(Option.LIST), option(Option.INFO, go_data("d0", Info.NAME, Info.DESCRIPTION))],
        [option(Option.STARTTLS), option(Option.LIST_META_CONTEXT, context_data("d0", "base:"))],
    )
]


@given(
    st.sampled_from(RECORDINGS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=6)), max_size=4),
)
@settings(max_examples=examples(300), deadline=None)
def test_a_mutated_recording_is_answered_or_hung_up_on_and_takes_little_memory(
    recording: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    sent = bytearray(recording)
    for at, removed, put in changes:
        sent[at : at + removed] = put
    sent += bytes(200 << 10)  # whatever an option announces comes
    shake = handshake("d0", "d1")
    tracemalloc.start()
    with contextlib.suppress(ProtocolError):
        for start in range(0, len(sent), 1000):
            assert len(shake.feed(bytes(sent[start : start + 1000]))) <= MAX_REPLIES
            if shake.agreement is not None:
                break
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * MAX_OPTION_DATA  # the received data, and copies of it while it is read
