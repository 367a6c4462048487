"""qmon: the QEMU human monitor as a program of its own, with live migration of disks."""
