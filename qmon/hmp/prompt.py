"""The prompt, the same as QEMU's."""

PROMPT = "(qemu) "
