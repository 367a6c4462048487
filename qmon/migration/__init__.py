"""Live migration of disks to another host: states, journal, parameters, progress, and both sides.

It may import block, host and notation.
"""
