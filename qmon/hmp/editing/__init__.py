"""Help while a line is typed: completion, hints, highlighting, the nearest name.

It may import the line, the tables and the monitor.
"""
