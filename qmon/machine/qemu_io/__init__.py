"""The qemu-io command: its language, its requests, its output.

It may import the machine and block.
"""
