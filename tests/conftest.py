"""What every test run has: a closing line about the peers, and patience with examples on a busy machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import hypothesis
import pytest

from tests.interop import peers

hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the programs keep between runs, they keep with the rest of what the tests leave."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Name the missing peers below every other summary, where it is read."""
    yield
    if peers.missing:
        names = ", ".join(sorted(peers.missing))
        what = "failed" if peers.REQUIRED else "were skipped"
        terminalreporter.write_line(
            f"peers missing: {names}; tests that need them {what} (tools/install-peers, as root)", yellow=True
        )
