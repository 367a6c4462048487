"""Credentials and authorization by QMP: what is found wrong with the files, and who is let in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.machine.authorization import AuthorizationFile, decide
from qmon.machine.credentials import X509Credentials
from tests.support.certificates import Authority

EXPIRED = {"days": 1, "begins_in_days": -3}
FUTURE = {"days": 5, "begins_in_days": 3}
NO_ISSUER = "failed validation against DIR/ca-cert.pem: The certificate hasn't got a known issuer"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


def load(folder: Path, side: str, **options: Any) -> str:
    """Why credentials are refused, with DIR for their folder; "" if they are taken."""
    made = X509Credentials("tls-creds-x509", {"dir": str(folder), "endpoint": side, **options})
    try:
        made.check({})
        made.complete()
        made.tls()
    except CommandError as error:
        return str(error).replace(str(folder), "DIR")
    return ""


def leaf_as_authority(folder: Path, side: str) -> None:
    (folder / "ca-cert.pem").write_bytes((folder / f"{side}-cert.pem").read_bytes())


def junk(name: str) -> Callable[[Path, str], None]:
    def spoil(folder: Path, side: str) -> None:
        (folder / name.format(side)).write_text("junk")

    return spoil


@pytest.mark.parametrize("side", ["server", "client"])
def test_good_credentials_are_taken(ours: Authority, side: str) -> None:
    assert load(ours.folder(side), side) == ""
    assert load(ours.folder(side, revoked=[]), side) == ""


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        (EXPIRED, "The {} certificate DIR/{}-cert.pem has expired"),
        (FUTURE, "The {} certificate DIR/{}-cert.pem is not yet active"),
    ],
)
def test_dates_of_ones_own_certificate_are_checked(
    ours: Authority, side: str, how: dict[str, Any], told: str
) -> None:
    folder = ours.folder(side, ours.issue(side, **how))
    assert load(folder, side) == told.format(side, side)
    assert load(folder, side, **{"sanity-check": False}) == ""


@pytest.mark.parametrize("side", ["server", "client"])
def test_ones_own_certificate_must_be_good_for_the_peer(ours: Authority, other: Authority, side: str) -> None:
    foreign = ours.folder(side, other.issue(side))
    assert load(foreign, side) == f"Our own certificate DIR/{side}-cert.pem {NO_ISSUER}"
    opposite = {"server": "client", "client": "server"}[side]
    told = load(ours.folder(side, ours.issue(opposite)), side)
    assert told == (
        f"The certificate DIR/{side}-cert.pem is for another purpose: it needs the extended key usage of a"
        f" TLS {side}"
    )


KEY = (
    "Unable to import certificate DIR/{0}-cert.pem and key DIR/{0}-key.pem: the key does not fit the"
    " certificate, or the password is wrong"
)


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (leaf_as_authority, "The certificate DIR/ca-cert.pem basic constraints do not show a CA"),
        (junk("ca-cert.pem"), "Unable to import CA certificate list DIR/ca-cert.pem"),
        (junk("ca-crl.pem"), "Unable to import CRL DIR/ca-crl.pem: it is no list in PEM"),
        (junk("{}-cert.pem"), KEY),
        (junk("{}-key.pem"), KEY),
    ],
)
def test_a_file_that_is_wrong_is_named(
    ours: Authority, side: str, spoil: Callable[[Path, str], None], told: str
) -> None:
    folder = ours.folder(side)
    spoil(folder, side)
    assert load(folder, side) == told.format(side)


@pytest.mark.parametrize(
    "priority",
    ["junk", "NORMAL:+ANON-DH", "NORMAL:-VERS-ALL", "NORMAL:%COMPAT", "NORMAL:", "SECURE256:!VERS-TLS1.2"],
)
def test_a_priority_that_openssl_has_no_word_for_is_refused(ours: Authority, priority: str) -> None:
    assert load(ours.folder("server"), "server", priority=priority) == (
        f"priority '{priority}' is not supported: use NORMAL, NORMAL:-VERS-TLS1.2 or NORMAL:-VERS-TLS1.3"
    )


def rule(match: str, policy: str, format: str = "exact") -> dict[str, str]:
    return {"match": match, "policy": policy, "format": format}


def test_the_first_rule_that_matches_decides() -> None:
    rules = [rule("CN=a*", "allow", "glob"), rule("CN=ab", "deny"), rule("CN=?", "deny", "glob")]
    allowing = {"policy": "allow", "rules": rules}
    assert [decide(allowing, name) for name in ("CN=ab", "CN=b", "CN=bc")] == [True, False, True]
    assert [decide({"rules": rules}, name) for name in ("CN=ab", "CN=b", "CN=bc")] == [True, False, False]
    assert not decide({}, "CN=a")


@given(st.text("ab*?[].\n", max_size=8))
def test_a_glob_has_two_wildcards_only(text: str) -> None:
    assert decide({"rules": [rule("*", "allow", "glob")]}, text)
    assert decide({"rules": [rule("?" * len(text), "allow", "glob")]}, text)
    literal = text.replace("*", "x").replace("?", "x")
    assert decide({"rules": [rule(literal, "allow", "glob")]}, literal)
    assert not decide({"rules": [rule(literal, "allow", "glob")]}, literal + "\n")


def test_a_list_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"policy": "allow"}')
    both = [
        AuthorizationFile("authz-list-file", {"filename": str(path), **more})
        for more in ({}, {"refresh": False})
    ]
    for each in both:
        each.complete()

    def answers() -> list[bool]:
        return [each.is_allowed("CN=a") for each in both]

    assert answers() == [True, True]
    new = tmp_path / "new.json"
    for text, wanted in (('{"policy": "deny"}', False), ('{"policy": "allow"}', True), ("{", False)):
        new.write_text(text)
        os.replace(new, path)
        assert answers() == [wanted, True]
    path.unlink()
    assert answers() == [False, True]
