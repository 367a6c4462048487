"""The receiving side.

It may import the wire and what both sides share; never the source.
"""
