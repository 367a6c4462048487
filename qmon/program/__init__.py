"""The command line and the process: reads the options, builds the machine and its monitors, runs them.

It may import every room; no room imports it.
"""
