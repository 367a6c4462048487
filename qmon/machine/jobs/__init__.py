"""Jobs: long commands that a client watches and controls (QAPI: job.json).

May import what the machine may import, but not its commands.
"""
