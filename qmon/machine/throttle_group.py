"""``throttle-group``: a group of limits, checked as in QEMU."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.errors import CommandError
from qmon.machine.throttle_limits import LENGTH, UNLIMITED, check_limits
from qmon.machine.user_object import UserObject

LENGTH_MAX = (1 << 32) - 1
_PREFIX = "x-"


class ThrottleGroup(UserObject):
    """The limits are options: all in ``limits``, or each as ``x-NAME``."""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        for name, value in self.options.get("limits", {}).items():
            if name.endswith(LENGTH) and value > LENGTH_MAX:
                raise CommandError(f"{name} value must be in the range [0, {LENGTH_MAX}]")
        for name, value in self.options.items():
            if not name.startswith(_PREFIX):
                continue
            if value < 0:
                raise CommandError("Property values cannot be negative")
            if name.endswith(LENGTH) and value > LENGTH_MAX:
                raise CommandError(f"{name} value must be in therange [0, {LENGTH_MAX}]")
        check_limits({**UNLIMITED, **self.limits})

    @property
    def limits(self) -> dict[str, int]:
        """The limits that were given, a ThrottleLimits."""
        given: dict[str, int] = dict(self.options.get("limits", {}))
        single = {name for name in self.options if name.startswith(_PREFIX)}
        return {**given, **{name.removeprefix(_PREFIX): self.options[name] for name in single}}
