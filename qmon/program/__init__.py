"""The command line and the process: reads the options, builds what they name, runs it.

It may import every room; no room imports it.
"""
