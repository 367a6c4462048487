"""A qmon with an NBD server for all tests of a module, one for each way to reach it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.nbd_house import House, Way
from tests.support.processes import Lab


@pytest.fixture(scope="module", params=list(Way), ids=lambda way: way.value)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Lab(tmp_path_factory.mktemp("house")) as lab:
        yield House(lab, request.param)
