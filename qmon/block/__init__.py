"""Nodes that hold the bytes of a disk (file, raw, qcow2), and filters (dirty map, throttle, faults).

It may import host and notation.
"""
