"""Help for a line that is being typed: completion, hints, highlighting, the nearest name.

It may import the monitor and what is below it, but no front.
"""
