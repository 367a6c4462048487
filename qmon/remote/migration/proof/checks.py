"""What the source's console compares: backing images before an incremental copy, the disks at its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from uuid import UUID

from qmon.errors import Problems, ProblemsError
from qmon.remote.migration.agreement.matching import Plan
from qmon.remote.migration.copies import Copy
from qmon.remote.migration.proof.comparison import Ask
from qmon.remote.migration.proof.fragile import has_fragile_server
from qmon.remote.migration.proof.overlays import prove_overlays
from qmon.remote.migration.proof.read_only import compare_read_only
from qmon.remote.migration.proof.verification import DiskCheck, Verification
from qmon.remote.remote import Remote

FULL_IS_TOO_LONG = (
    "x-qmon-verify-copy is full, but disks of this QEMU are in an iothread: before 9.0 its NBD server may"
    " fail while they are compared in full, and the guest with it:"
    " 'migrate_set_parameter x-qmon-verify-copy sample'"
)
NOTHING = "the copies of the disks ended without an error"


class Checks:
    """The comparisons of one migration. Its id decides which samples are taken."""

    def __init__(self, remote: Remote, ask: Ask, migration: str, tell: Callable[[str], None]) -> None:
        """``tell`` is told a line for the person."""
        self.verified = ""
        """How the result was compared, in words; "" while it was not."""
        self._remote = remote
        self._ask = ask
        self._tell = tell
        self._seed = random.Random(UUID(migration).int).getrandbits(64)
        self._mark = UUID(migration).hex[:6]
        self._verification: Verification | None = None
        self._before: list[str] = []

    async def prove(self, plan: Plan, verify: str, *, inc: bool) -> None:
        """Compare what is not copied: read-only drives, and for an incremental copy backing images.

        Raises ProblemsError, QmonError.
        """
        if verify == "full" and await has_fragile_server(self._remote):
            raise ProblemsError([FULL_IS_TOO_LONG])
        how = (self._mark, self._ask, verify, self._seed)
        problems = Problems()
        with problems.noting():
            self._before.append(await compare_read_only(self._remote, plan.read_only, *how))
        with problems.noting():
            if inc:
                self._before.append(await prove_overlays(self._remote, plan.pairs, *how))
        problems.check()

    async def prepare(self, copies: Sequence[Copy], verify: str) -> bool:
        """Start what the verification needs here: if that is not possible, it is known early.

        Return whether the QEMU has an NBD server of ours now. Raises QmonError.
        """
        if verify == "off":
            return False
        disks = [DiskCheck(each.disk.name, each.disk.node, each.export) for each in copies]
        self._verification = Verification(self._remote, disks, self._ask, verify, self._seed)
        await self._verification.prepare()
        return True

    async def open(self) -> None:
        """Make the connections that a check needs. Raises QmonError."""
        if self._verification is not None:
            await self._verification.open()

    async def look(self) -> None:
        """Compare what can be while the guest runs, before the memory is sent. Raises QmonError."""
        if self._verification is not None and self._verification.is_full:
            self._tell("The disks are copied. All of them are compared now; the memory follows then")
            await self._verification.look()

    def warm(self) -> None:
        """Begin to bring into memory what ``check`` reads, while the guest still runs; idempotent."""
        if self._verification is not None:
            self._verification.warm()

    async def check(self, downtime_limit: float) -> None:
        """Compare the disks, to which nobody writes any more; the limit is in seconds. Raises QmonError."""
        words = [NOTHING]
        if self._verification is not None:
            words = [await self._verification.check(downtime_limit)]
        self.verified = "; ".join([*words, *filter(None, self._before)])

    async def close(self) -> None:
        """End what was begun; idempotent. Raises CommandError."""
        verification, self._verification = self._verification, None
        if verification is not None:
            await verification.close()
