"""The machine protocol: the registry of commands, their schema, events, the server; what a target lacks.

It may import host and notation.
"""
