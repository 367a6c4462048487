"""Which commands exist: the reader of .hx tables, signatures, manual pages.

It may import notation and nothing else of hmp.
"""
