"""The types of objects that the machine makes, each by its class, and the small ones themselves."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError, UsageError, reason
from qmon.host.small_file import read_file
from qmon.machine.credentials import Credentials, PskCredentials, X509Credentials
from qmon.machine.memory_backend import FileBackend, MemfdBackend, MemoryBackend
from qmon.machine.qom import OBJECTS, Tree
from qmon.machine.secret import Secret
from qmon.machine.throttle_group import ThrottleGroup
from qmon.machine.user_object import UserObject
from qmon.notation.json_text import parse_json
from qmon.notation.object_options import options_of
from qmon.notation.visit import INT64_MAX, Form

POOL_THREADS_MAX = 64


class EventLoop(UserObject):
    """What ``iothread`` and ``main-loop`` have in common: kept, the machine's threads don't heed it."""

    defaults: ClassVar[Mapping[str, Any]] = {"thread-pool-max": POOL_THREADS_MAX, "poll-max-ns": 32768}

    def store(self, name: str, value: Any) -> None:
        if value < 0:
            raise CommandError(f"{name} value must be in range [0, {INT64_MAX}]")
        super().store(name, value)
        if self.completed and not name.startswith("poll-"):
            self.check()

    def check(self) -> None:
        least, most = self.values["thread-pool-min"], self.values["thread-pool-max"]
        if not most or least > most:
            raise CommandError("bad thread-pool-min/thread-pool-max values")


class IoThread(EventLoop):
    """``iothread``: all of them are shown as the one thread that the machine is controlled by."""

    def describe(self) -> dict[str, Any]:
        """An IOThreadInfo (qapi/misc.json)."""
        shown = ("poll-shrink", "aio-max-batch", "poll-grow", "poll-max-ns")
        thread = {"thread-id": threading.get_native_id(), "id": self.name}
        return {**{name: self.values[name] for name in shown}, **thread}


class MainLoop(EventLoop):
    """``main-loop``: there is one, and it stays."""

    def check(self) -> None:
        super().check()
        others = self.tree.container(OBJECTS).children.values()
        if any(isinstance(other, MainLoop) and other.completed and other is not self for other in others):
            raise CommandError("only one main-loop instance allowed")

    @property
    def is_in_use(self) -> bool:
        return True


class CanBus(UserObject):
    """``can-bus``: once made it stays, as with QEMU."""

    @property
    def is_in_use(self) -> bool:
        return True


class RandomSource(UserObject):
    """``rng-builtin``; ``rng-random`` has a file, which is opened once to see that it can be."""

    defaults: ClassVar[Mapping[str, Any]] = {"filename": "/dev/urandom"}

    def show(self, name: str) -> Any:
        return self.completed if name == "opened" else super().show(name)

    def store(self, name: str, value: Any) -> None:
        if self.completed:
            raise CommandError(f"Property '{name}' can no longer be set")
        super().store(name, value)

    def complete(self) -> None:
        file = self.values.get("filename")
        if file is None:
            return
        try:
            os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not open '{file}': {reason(error)}") from error


_RULE_ORDER = ("format", "policy", "match")


class AuthorizationList(UserObject):
    """``authz-list``: rules, and the policy where none fits."""

    defaults: ClassVar[Mapping[str, Any]] = {"policy": "deny"}

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name, tree)
        self.values["rules"] = []

    def show(self, name: str) -> Any:
        if name != "rules":
            return super().show(name)
        return [{key: rule[key] for key in _RULE_ORDER if key in rule} for rule in self.values["rules"]]


class AuthorizationFile(UserObject):
    """``authz-list-file``: a file that holds what ``authz-list`` is given, as JSON."""

    defaults: ClassVar[Mapping[str, Any]] = {"refresh": True}

    def complete(self) -> None:
        path = self.values["filename"]
        try:
            text = read_file(path).decode()
            rules = options_of("authz-list").read(
                {"qom-type": "authz-list", "id": "file", **_as_object(parse_json(text))}, Form.JSON
            )
        except (OSError, ValueError, UsageError) as error:
            raise CommandError(f"Unable to read '{path}': {reason(error)}") from error
        self.rules: dict[str, Any] = rules


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("File must contain a JSON object")
    return value


CLASSES: dict[str, type[UserObject]] = {
    "authz-list": AuthorizationList,
    "authz-list-file": AuthorizationFile,
    "authz-simple": UserObject,
    "can-bus": CanBus,
    "iothread": IoThread,
    "main-loop": MainLoop,
    "memory-backend-file": FileBackend,
    "memory-backend-memfd": MemfdBackend,
    "memory-backend-ram": MemoryBackend,
    "rng-builtin": RandomSource,
    "rng-random": RandomSource,
    "secret": Secret,
    "throttle-group": ThrottleGroup,
    "tls-creds-anon": Credentials,
    "tls-creds-psk": PskCredentials,
    "tls-creds-x509": X509Credentials,
}
"""By the names of ``qmon.notation.object_options.CREATABLE``."""
