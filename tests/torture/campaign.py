"""Many runs in a row, two at a time, and their figures.

    python -m tests.torture.campaign [--kind KIND] [--seed S] [--runs N]

The kinds are proxy, kill, slow, exec, blocking, multifd, recover, forward and qemus.

The kind ``qemus`` moves guests of real QEMUs, and is not among those that are done without ``--kind``.
Run ``i`` of seed S is run 0 of seed S + i, so that ``--seed S+i --runs 1`` repeats it.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import multiprocessing
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.support.peer import QEMU_10
from tests.support.peers import exit_without
from tests.support.thoroughness import THOROUGH
from tests.torture.qemus.scenario import draw as draw_qemus
from tests.torture.qemus.trial import try_out as try_out_qemus
from tests.torture.recover import try_out_recover
from tests.torture.scenario import draw
from tests.torture.trial import Result, try_out

WORKERS = 2
RUNS = {
    "proxy": 500,
    "kill": 200,
    "slow": 50,
    "exec": 100,
    "multifd": 100,
    "blocking": 100,
    "recover": 60,
    "forward": 150,
}
QEMUS = "qemus"
QEMUS_RUNS = 200
OK, BROKEN = 0, 1


def fresh_seed() -> int:
    return random.SystemRandom().randrange(1_000_000_000)


def seed_of_sample(first: int) -> int:
    """Where a test's sample of the runs begins: always at the same one, but in ``make thorough`` anywhere."""
    return fresh_seed() if THOROUGH else first


def one(kind: str, seed: int, folder: str) -> Result:
    """One run, in a worker."""
    if kind == QEMUS:
        return one_of_qemus(seed, folder)
    scenario = draw(kind, seed)
    try:
        if kind == "recover":
            return try_out_recover(scenario, Path(folder) / f"{kind}-{seed}")
        return try_out(scenario, Path(folder) / f"{kind}-{seed}")
    except Exception:  # noqa: BLE001 - a fault of the harness is a failed run, and the others go on
        return Result(seed, str(scenario), "harness", problems=[traceback.format_exc()])


def one_of_qemus(seed: int, folder: str) -> Result:
    """The same between two QEMUs."""
    moved = draw_qemus(seed)
    try:
        return try_out_qemus(moved, Path(folder) / f"{QEMUS}-{seed}")
    except Exception:  # noqa: BLE001 - a fault of the harness is a failed run, and the others go on
        return Result(seed, str(moved), "harness", problems=[traceback.format_exc()])


def campaign(kind: str, seed: int, runs: int, folder: Path, workers: int = WORKERS) -> Iterator[Result]:
    """Yield the results as they come."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(one, kind, seed + index, str(folder)) for index in range(runs)]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def failure(kind: str, result: Result) -> str:
    """What went wrong, and what to run to repeat it."""
    again = f"python -m tests.torture.campaign --kind {kind} --seed {result.seed} --runs 1"
    return f"{again}  # {result.scenario}: {'; '.join(result.problems)}  [{result.evidence}]"


def summary(kind: str, results: list[Result]) -> str:
    """The figures."""
    rules = collections.Counter(result.rule for result in results)
    outcomes = collections.Counter(result.outcome for result in results)
    seconds = [result.seconds for result in results]
    broken = sum(1 for result in results if result.problems)
    return "\n".join(
        [
            f"{kind}: {len(results)} runs, {broken} broke a promise;"
            f" {min(seconds):.1f} to {max(seconds):.1f} s each;"
            f" {sum(result.acknowledged for result in results)} writes acknowledged",
            "  by rule:    " + ", ".join(f"{name} {count}" for name, count in sorted(rules.items())),
            "  by outcome: " + ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())),
        ]
    )


def report(kind: str, seed: int, runs: int, workers: int) -> bool:
    """Do the runs and print what came of them; say whether every promise was kept."""
    print(f"{kind}: seed {seed}, {runs} runs", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="qmon-torture-"))
    results = []
    for result in campaign(kind, seed, runs, folder, workers):
        results.append(result)
        if result.problems:
            print(failure(kind, result), flush=True)
    print(summary(kind, results), flush=True)
    with contextlib.suppress(OSError):  # what a broken run left is kept
        folder.rmdir()
    return not any(result.problems for result in results)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--kind", choices=[*RUNS, QEMUS], help="all but qemus, one after the other, without it"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args()
    exit_without("qemu-img", "socat", *["qemu-system-x86_64", QEMU_10[0]] * (options.kind == QEMUS))
    seed = fresh_seed() if options.seed is None else options.seed
    kinds = [options.kind] if options.kind else list(RUNS)
    kept = [
        report(kind, seed, options.runs or {**RUNS, QEMUS: QEMUS_RUNS}[kind], options.workers)
        for kind in kinds
    ]
    return OK if all(kept) else BROKEN


if __name__ == "__main__":
    sys.exit(main())
