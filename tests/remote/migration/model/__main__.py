"""Tries every table with one thing wrong in the model: ``python -m tests.remote.migration.model``.

It takes minutes. Its exit status is 1 if that is not as HARMLESS says.
"""

from __future__ import annotations

import sys

from tests.remote.migration.model.mutations import HARMLESS, mutations
from tests.remote.migration.model.search import Search
from tests.remote.migration.model.world import World


def main() -> int:
    wrong = 0
    for name, (source, destination) in mutations().items():
        finding = Search(World(source, destination, faults=1)).run()
        says = "not found" if finding is None else finding.promise
        if (finding is None) != (name in HARMLESS):
            wrong += 1
            says += " (HARMLESS says otherwise)"
        print(f"{name}: {says}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
