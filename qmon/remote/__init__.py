"""Running QEMUs: connections to them, each of which is a Target (``qmon.qmp.target``).

It imports ``qmon.qmp``, the NBD client ``qmon.nbd.client``, and what every room may import.
"""
