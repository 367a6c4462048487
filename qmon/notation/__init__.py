"""Parsers and formatters of text: option strings, JSON, sizes, addresses, names. Pure.

It may import errors only.
"""
