"""The receiving side of a migration.

It may import the wire and what both sides share; never the source.
"""
