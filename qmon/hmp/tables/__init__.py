"""The tables of commands: the reader of .hx files, signatures, manual pages.

It may import notation and nothing else of hmp.
"""
