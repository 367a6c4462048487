"""Text to calls: the human monitor. A line is read, its command found, and QMP commands are made of it.

It may import qmp, host and notation; never the machine side.
"""
