"""QMP, the machine protocol: the registry of commands, their schema, events, the server; what targets lack.

It may import host and notation.
"""
