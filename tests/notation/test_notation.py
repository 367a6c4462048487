"""How things are written: option strings, addresses, sizes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError, QmonError, UsageError, reason
from qmon.host import sockets
from qmon.notation import address, keyval, units
from qmon.notation.address import InetAddress, UnixAddress

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
keys = st.from_regex(r"[a-z][a-z.-]{0,8}", fullmatch=True)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    st.ip_addresses().map(str),
    st.just(""),
)
ports = st.one_of(st.integers(0, 65535).map(str), st.sampled_from(["nbd", "https"]))


def refusal(read: Callable[[str], object], text: str) -> str | None:
    """What ``read`` says against ``text``; None when it takes it. Anything but these two errors is a bug."""
    try:
        read(text)
    except (UsageError, ValueError) as error:
        return str(error)
    return None


class TestOptionStrings:
    @given(st.dictionaries(keys, texts))
    def test_what_is_written_with_doubled_commas_is_read_back(self, options: dict[str, str]) -> None:
        text = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in options.items())
        assert keyval.parse_keyval(text) == options

    @given(texts.filter(lambda text: "=" not in text and text), st.dictionaries(keys, texts))
    def test_the_first_value_may_lack_its_key(self, first: str, options: dict[str, str]) -> None:
        rest = "".join(f",{key}={value.replace(',', ',,')}" for key, value in options.items())
        expected = {"implied key": first, **options}
        assert keyval.parse_keyval(first.replace(",", ",,") + rest, "implied key") == expected

    @given(texts)
    def test_splitting_loses_nothing(self, text: str) -> None:
        joined = ",".join(part.replace(",", ",,") for part in keyval.split_options(text))
        assert joined in (text, text.removesuffix(","))

    @given(texts)
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        refused = refusal(keyval.parse_keyval, text)
        assert refused is None or "Expected 'key=value'" in refused

    def test_a_later_value_replaces_an_earlier_one(self) -> None:
        assert keyval.parse_keyval("a=1,b=2,a=3") == {"a": "3", "b": "2"}

    def test_a_bare_word_is_a_switch(self) -> None:
        assert keyval.parse_keyval("server,nowait,no") == {"server": "on", "wait": "off", "no": "on"}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [*((word, True) for word in ("on", "yes", "true", "y")), *((word, False) for word in ("off", "no"))],
    )
    def test_a_switch_has_several_words(self, value: str, expected: bool) -> None:
        assert keyval.parse_switch("key", value) is expected

    @given(texts.filter(lambda text: text not in keyval.TRUE_WORDS + keyval.FALSE_WORDS))
    def test_any_other_word_is_no_switch(self, value: str) -> None:
        with pytest.raises(UsageError, match="Parameter 'key' expects 'on' or 'off'"):
            keyval.parse_switch("key", value)


class TestAddresses:
    @given(hosts, ports)
    def test_an_inet_address_is_read_as_it_is_shown(self, host: str, port: str) -> None:
        shown = InetAddress(host, port)
        assert address.parse_address(str(shown)) == shown
        assert address.parse_address(f"tcp:{shown}") == shown
        assert address.from_qapi(shown.to_qapi()) == shown

    @pytest.mark.parametrize("port", ["65536", "99999", "9" * 5000])
    def test_a_port_that_is_none_is_not_wrapped_into_another(self, port: str) -> None:
        for passive in (False, True):
            with pytest.raises(UsageError, match="a port is at most 65535"):
                sockets.resolve(InetAddress("127.0.0.1", port), passive=passive)

    @given(texts.filter(lambda text: text and len(text.encode()) <= address.UNIX_PATH_MAX))
    def test_a_unix_address_is_read_as_it_is_shown(self, path: str) -> None:
        shown = UnixAddress(path)
        assert address.parse_address(str(shown)) == shown
        assert address.from_qapi(shown.to_qapi()) == shown

    @given(hosts, ports)
    def test_the_older_form_of_qapi_is_read_too(self, host: str, port: str) -> None:
        older = {"type": "inet", "data": {"host": host, "port": port}}
        assert address.from_qapi(older) == InetAddress(host, port)

    @given(texts)
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        assert refusal(address.parse_address, text) != ""

    @pytest.mark.parametrize("text", ["", "tcp:", "host", "host:", "[::1]", "[::1]4444", "[::1]:", "tcp:x"])
    def test_half_an_address_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="error parsing address"):
            address.parse_address(text)

    def test_a_socket_path_has_a_longest_length(self) -> None:
        longest = "a" * address.UNIX_PATH_MAX
        assert address.parse_unix(longest).path == longest
        with pytest.raises(UsageError, match="too long: at most 107 bytes"):
            address.parse_unix(longest + "a")
        with pytest.raises(UsageError, match="too long"):
            address.parse_unix("é" * (address.UNIX_PATH_MAX // 2 + 1))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({}, "Parameter 'addr.type' is missing"),
            ({"type": "inet", "host": "h"}, "Parameter 'addr.port' is missing"),
            ({"type": "inet", "port": "1"}, "Parameter 'addr.host' is missing"),
            ({"type": "unix"}, "Parameter 'addr.path' is missing"),
            ({"type": "vsock"}, "Parameter 'addr.type' does not accept value 'vsock': use inet or unix"),
        ],
    )
    def test_half_a_qapi_address_is_refused(self, value: dict[str, object], message: str) -> None:
        with pytest.raises(CommandError) as caught:
            address.from_qapi(value)
        assert str(caught.value) == message

    def test_an_empty_host_is_all_to_a_listener_and_loopback_to_a_client(self) -> None:
        """So `tcp:0:4444` and `tcp::4444` mean what they mean to QEMU."""
        assert sockets.resolve(InetAddress("", "4444"), passive=True) == (socket.AF_INET, ("0.0.0.0", 4444))
        assert sockets.resolve(InetAddress("", "4444"), passive=False) == (
            socket.AF_INET,
            ("127.0.0.1", 4444),
        )
        assert sockets.resolve(InetAddress("0", "4444"), passive=True) == (socket.AF_INET, ("0.0.0.0", 4444))

    @pytest.mark.parametrize("kind", ["inet", "unix"])
    def test_a_client_reaches_a_listener(self, kind: str, tmp_path: Path) -> None:
        where = UnixAddress(str(tmp_path / "s")) if kind == "unix" else InetAddress("127.0.0.1", "0")
        with sockets.listen(where) as server:
            if isinstance(where, InetAddress):
                where = InetAddress("127.0.0.1", str(server.getsockname()[1]))
            with sockets.connect(where, timeout=10) as client, server.accept()[0] as accepted:
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"

    def test_the_socket_of_a_dead_process_is_replaced_and_a_live_one_is_not(self, tmp_path: Path) -> None:
        where = UnixAddress(str(tmp_path / "s"))
        sockets.listen(where).close()
        with sockets.listen(where), pytest.raises(OSError, match="in use"):
            sockets.listen(where)

    def test_a_file_in_the_way_is_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "s"
        file.write_text("precious")
        with pytest.raises(OSError, match="in use"):
            sockets.listen(UnixAddress(str(file)))
        assert file.read_text() == "precious"


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "value", "end"),
        [
            ("0x1fg", 31, 4),
            ("0xg", 0, 1),
            ("010", 8, 3),
            ("08", 0, 1),
            (" \t-5x", -5, 4),
            ("+7", 7, 2),
        ],
    )
    def test_an_integer_ends_where_c_ends_it(self, text: str, value: int, end: int) -> None:
        assert units.read_integer(text) == (value, end)

    @pytest.mark.parametrize("text", ["", "-", "x1", "\xa05", "\u0661"])
    def test_what_does_not_begin_as_an_integer_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="invalid number"):
            units.read_integer(text)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("08", "Parameter 'n' expects a number"),
            ("99999999999999999999", "Value '99999999999999999999' is too large for parameter 'n'"),
            ("9" * 5000 + "x", "Parameter 'n' expects a number"),
        ],
    )
    def test_an_option_that_is_no_number_is_refused_in_qemus_words(self, value: str, message: str) -> None:
        assert refusal(lambda text: keyval.parse_number("n", text), value) == message

    def test_a_negative_number_counts_down_from_the_top(self) -> None:
        assert keyval.parse_number("n", "-1") == (1 << 64) - 1

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("16E", "Value '16E' is out of range for parameter 'n'"),
            ("99999999999999999999x", f"Parameter 'n' {units.SIZE_HINT}"),
            ("++1", f"Parameter 'n' {units.SIZE_HINT}"),
        ],
    )
    def test_an_option_that_is_no_size_is_refused_in_qemus_words(self, value: str, message: str) -> None:
        assert refusal(lambda text: keyval.parse_size_option("n", text), value) == message


class TestSizes:
    @given(st.integers(0, (1 << 64) - 1))
    def test_bytes_are_read_exactly(self, size: int) -> None:
        assert units.parse_size(str(size)) == size
        assert units.parse_size(f"{size}b") == size
        assert units.parse_size(hex(size)) == size

    @given(st.integers(0, 15), st.sampled_from("bkmgtpeBKMGTPE"))
    def test_a_suffix_is_a_power_of_1024_in_either_case(self, count: int, suffix: str) -> None:
        assert units.parse_size(f"{count}{suffix}") == count << (10 * "BKMGTPE".index(suffix.upper()))
        assert units.parse_size(str(count), suffix.upper()) == units.parse_size(f"{count}{suffix}")

    @given(st.decimals(0, 1000, places=6, allow_nan=False, allow_infinity=False), st.sampled_from("KMGT"))
    def test_a_fraction_counts_to_the_nearest_byte(self, number: Decimal, suffix: str) -> None:
        exact = number * (1 << (10 * "BKMGT".index(suffix)))
        assert units.parse_size(f"{number}{suffix}") == int(exact + Decimal("0.5"))

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1.0009k", 1025),
            ("1.0001k", 1024),
            ("1.", 1),
            ("1.0", 1),
            ("1.00B", 1),
            ("15.9E", 18331451923248866944),
            ("0.0000000001E", 115292150),
        ],
    )
    def test_sizes_that_qemu_was_asked_for(self, text: str, size: int) -> None:
        assert units.parse_size(text) == size

    def test_a_size_past_64_bits_can_be_told_from_what_is_none(self) -> None:
        with pytest.raises(units.RangeError, match="invalid size"):
            units.parse_size("16E")

    @given(st.integers(0, 1 << 40), st.from_regex(r"[ ,x/][a-z ]{0,5}", fullmatch=True))
    def test_what_follows_a_size_is_left(self, size: int, rest: str) -> None:
        text = str(size)
        if size or not rest.startswith("x"):
            assert units.read_size(text + rest) == (size, len(text))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "-1",
            "1Q",
            "1KK",
            "1 K",
            str(1 << 64),
            "16E",
            "0x",
            "++1",
            "+ 1",
            "1e3x",
            "1.5",
            "1.5B",
            "0x1.8K",
            "0x1.",
            "1.5e3",
        ],
    )
    def test_what_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="invalid size"):
            units.parse_size(text)

    @given(texts)
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        assert refusal(units.parse_size, text) in (None, "invalid size")

    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256 MiB"),
            (1023_700, "1000 KiB"),
            (1000 << 20, "1000 MiB"),
            (1 << 50, "1024 TiB"),
        ],
    )
    def test_a_person_sees_the_largest_unit_that_fits(self, size: int, shown: str) -> None:
        assert units.human_size(size) == shown

    @given(st.integers(0, 1 << 50))
    def test_what_a_person_sees_is_within_half_a_percent(self, size: int) -> None:
        number, unit = units.human_size(size).split()
        meant = float(number) * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
        assert abs(meant - size) <= size * 0.005


class TestReasons:
    def test_an_operating_system_error_is_its_own_words(self) -> None:
        with pytest.raises(OSError, match="No such file") as caught:
            Path("/no/such/file").stat()
        assert reason(caught.value) == "No such file or directory"

    def test_a_reason_is_one_line_and_never_empty(self) -> None:
        assert reason(QmonError("first\nsecond")) == "first"
        assert reason(KeyError()) == "KeyError"
