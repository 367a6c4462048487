"""Character devices: they carry a monitor's bytes to and from its clients.

It may import host and notation.
"""
