"""The machine's side of migrations: what they may use, and how the machine's state follows them.

May import what the machine may import, but not its commands.
"""
