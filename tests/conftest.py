"""What every test has: a folder for qmon processes, patience, and a last line about the missing peers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import peers
from tests.support.processes import Lab
from tests.support.thoroughness import THOROUGH, examples, left_out

MISSING = "missing_peers"

# What is ignored in a process is ignored in those that it starts, as when a shell runs the tests in the
# background or by nohup; what is caught is not.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda number, frame: None)

# Thousands of processes are started. One without compiled modules takes 0.80 s of CPU instead of 0.36 s.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The examples are the same in every run, as in Hypothesis's own profile for continuous integration: a change
# that it looks at did not cause a rare example's failure. `make thorough` draws others each time. How long
# examples take to be made, and which fixtures they share, is no matter of a test's promise.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    max_examples=examples(100),
    derandomize=not THOROUGH,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the programs keep between runs, they keep with the rest of what the tests leave.

    They read no configuration file of the person who runs the tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A folder in which qmon processes can be started; they end with the test."""
    with Lab(tmp_path) as lab:
        yield lab


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "sample(count): so many of its cases are tried without QMON_THOROUGH=1"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = left_out(items)
    if out:
        config.hook.pytest_deselected(items=list(out))
    # A run of the torture may take a minute: behind all others it would keep one worker alone busy.
    left = [item for item in items if item not in out]
    items[:] = sorted(left, key=lambda item: "torture" not in item.path.parts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of several tells what it missed to the one that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[MISSING] = sorted(peers.missing)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended (pytest-xdist's hook); one that died has told nothing."""
    peers.missing.update(getattr(node, "workeroutput", {}).get(MISSING, []))


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
