"""The QMP commands, one module per QAPI family: arguments in, result out.

It may import the machine, and what the machine may import.
"""
