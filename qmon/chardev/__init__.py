"""Character devices: where a monitor's bytes come from and go to.

It may import host and notation.
"""
