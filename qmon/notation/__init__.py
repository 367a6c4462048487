"""How things are written: option strings, JSON, sizes, addresses, names, options. Pure.

It may import errors only.
"""
