"""Live migration of disks and memory between two running QEMUs, each of which has a console.

It imports ``qmon.remote``, ``qmon.qmp``, ``qmon.nbd.client`` and what every room may import.
"""
