"""What outlives a console: its record in the QEMU, the guardian, and what is left."""
