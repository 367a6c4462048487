"""Objects that a user creates, and that other commands refer to by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class UserObject:
    """An object with the options of object-add. It may be used once it is ``completed``.

    Types that need checks or files have a subclass, which overrides ``check`` or ``complete``.
    """

    def __init__(self, type_name: str, options: Mapping[str, Any]) -> None:
        self.type = type_name
        self.options = options
        self.completed = False

    def check(self, objects: Mapping[str, UserObject]) -> None:
        """Check that the options fit together and to other objects. Runs on the loop. Raises CommandError."""

    def complete(self) -> None:
        """Read the files that the options name. May block; does not run on the loop. Raises CommandError."""
