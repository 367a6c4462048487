"""The machine protocol: the registry of commands, their schema, events, the server.

It may import host and notation.
"""
