"""What every object that a user makes has in common: values by property, and hooks for what is special."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError
from qmon.machine.qom import Node, Property, Tree
from qmon.notation.object_options import TYPES, options_of, shown_properties

_EMPTY: dict[str, Any] = {"string": "", "bool": False, "int": 0, "uint32": 0}
"""By a property's type: what it is where nothing else is said."""


class UserObject(Node):
    """Made with its defaults, given its options one by one, completed, and only then in use.

    A subclass says its ``defaults``, and overrides ``store`` and ``complete``. ``fixed`` are the properties
    that can't be set once it is complete, with what is said then; ``{type}`` there is the object's type.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    fixed: ClassVar[Mapping[str, str]] = {}

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name)
        self.tree = tree
        self.completed = False
        self.values: dict[str, Any] = {}
        kinds = options_of(type_name).members
        for name, (shown, settable) in shown_properties(type_name).items():
            self.values[name] = self.defaults.get(name, _EMPTY.get(shown))
            self.properties[name] = Property(
                shown,
                self._reader(name),
                kinds[name] if settable else None,
                self._writer(name) if settable else None,
                self._refuser(name) if name in self.fixed else None,
            )

    def _reader(self, name: str) -> Callable[[], Any]:
        return lambda: self.show(name)

    def _writer(self, name: str) -> Callable[[Any], None]:
        return lambda value: self.store(name, value)

    def _refuser(self, name: str) -> Callable[[], None]:
        def refuse() -> None:
            if self.completed:
                raise CommandError(self.fixed[name].format(type=self.type))

        return refuse

    def show(self, name: str) -> Any:
        """A property's value as JSON holds it."""
        return self.values[name]

    def store(self, name: str, value: Any) -> None:
        """Take a value of the right kind. Raises CommandError for one that can't be."""
        self.values[name] = value

    def check(self) -> None:
        """Look at all values together, and into the tree, before the object is used; on the loop.

        Raises CommandError.
        """

    def complete(self) -> None:
        """Open and read what the object names; may block, and is not on the loop.

        Raises CommandError, or OSError.
        """

    @property
    def is_in_use(self) -> bool:
        """Whether something needs it, so that it can't be deleted."""
        return False

    def is_a(self, type_name: str) -> bool:
        return type_name in (self.type, TYPES[self.type].parent)
