"""What a drive's options say about its image and limits, in terms of files and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qmon.block.throttle import Limits
from qmon.errors import CommandError
from qmon.machine.throttle_group import ThrottleGroup
from qmon.machine.throttle_limits import read_limits
from qmon.machine.user_object import UserObject
from qmon.notation.drive_options import DriveOptions, node_options, with_image
from qmon.notation.file_names import without_protocol
from qmon.notation.node_reader import Find, NodeReader, is_json


def resolved(settings: DriveOptions, find: Find) -> DriveOptions:
    """Return settings with an image's path and what backs it, in place of a ``json:`` name or options.

    ``find`` returns an image by its node's name. Raises UsageError or CommandError.
    """
    if settings.options or is_json(settings.file):
        spec = NodeReader(find).read(node_options(settings), settings.file)
        return with_image(settings, spec)
    return replace(settings, file=without_protocol(settings.file))


def limits_of(settings: DriveOptions, objects: Mapping[str, UserObject]) -> Limits:
    """Return the limits of a new drive: its own, or for a node those of its throttle group.

    Raises UsageError or CommandError.
    """
    given: Mapping[str, Any] = settings.limits
    if settings.is_node and settings.group is not None:
        group = objects.get(settings.group)
        if not isinstance(group, ThrottleGroup):
            raise CommandError(f"Throttle group '{settings.group}' does not exist")
        given = group.limits
    return read_limits(given)
