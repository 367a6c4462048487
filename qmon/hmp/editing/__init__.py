"""Help while a line is typed: completion, hints, highlighting, the nearest name.

It may import the monitor and what is below it, but no front.
"""
