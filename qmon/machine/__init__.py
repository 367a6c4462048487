"""The embedded machine: its run state, drives and jobs.

It may import qmp, migration, nbd, chardev, block, host and notation; never the human side.
"""
