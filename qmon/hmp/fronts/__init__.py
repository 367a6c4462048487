"""The sources of lines: scripts, and monitors on a socket with their line editor.

It may import every other room of hmp.
"""
