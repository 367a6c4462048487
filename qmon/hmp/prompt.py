"""The prompt of a monitor, and its first line."""

from qmon.version import VERSION

PROMPT = "(qemu) "
BANNER = f"qmon {VERSION} monitor - type 'help' for more information"
