"""Migrations of guests between running QEMUs, with their disks.

A console at each side runs QMP commands on its own QEMU; the two agree over one connection. ``states`` has
the whole handover as tables, ``source`` and ``destination`` carry it out, and the program uses ``target``. It
imports ``qmon.remote``, ``qmon.qmp``, the NBD client, and what every room may import.
"""
