"""One connection of a source: its thread, and what it can be for.

Imports go from the thread (``session``) over the first record (``arrival``) to each of the parts.
"""
