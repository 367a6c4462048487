"""A monitor: command tables and a target, and the one way in for a line."""
