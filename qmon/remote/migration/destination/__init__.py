"""The destination's side of a migration: it answers the source, and watches the QEMU that takes the guest."""
