"""The prompt that operators know."""

PROMPT = "(qemu) "
