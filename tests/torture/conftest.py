"""The coverage of child processes is not measured here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.coverage import children_are_not_measured


@pytest.fixture(scope="package", autouse=True)
def unmeasured_children() -> Iterator[None]:
    with children_are_not_measured():
        yield
