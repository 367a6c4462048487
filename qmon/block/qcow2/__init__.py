"""The qcow2 format as a node (QEMU, docs/interop/qcow2)."""
