"""One module per family of QAPI commands, each for the registry: arguments in, result out.

It may import the machine, and what the machine may import.
"""
