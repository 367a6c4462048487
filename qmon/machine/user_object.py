"""The objects that a user makes and that other commands name by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class UserObject:
    """An object with the options of object-add; only one that is ``completed`` may be used.

    ``iothread`` and ``authz-simple`` need nothing else; a subclass overrides ``check`` and ``complete``.
    """

    def __init__(self, type_name: str, options: Mapping[str, Any]) -> None:
        self.type = type_name
        self.options = options
        self.completed = False

    def check(self, objects: Mapping[str, UserObject]) -> None:
        """Check the options together, and with other objects; runs on the loop. Raises CommandError."""

    def complete(self) -> None:
        """Read the files that the options name; may block, and does not run on the loop.

        Raises CommandError.
        """
