"""The operator's orders to a source that is paused, or in doubt."""

from __future__ import annotations

import threading

from qmon.migration.source.opening import Route


class Orders:
    """Any thread may give them; the source's thread waits for them."""

    def __init__(self, route: Route) -> None:
        self.route = route
        """The way to the destination, for the next connection."""
        self._changed = threading.Condition()
        self._is_to_go_on = self._has_ended = False

    def go_on(self, route: Route) -> None:
        """Let a paused source go on by a route."""
        with self._changed:
            self.route, self._is_to_go_on = route, True
            self._changed.notify_all()

    def end(self) -> None:
        """Let a paused source wait no longer."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait for an order to go on; return False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._is_to_go_on)
            self._is_to_go_on = False
            return not self._has_ended
