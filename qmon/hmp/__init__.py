"""Text to calls: the human monitor. A line is read, its command found, and QMP commands are made of it.

Its rooms, from above: fronts, editing, commands, line, tables; each imports those below it. The modules
between them carry a line from one to the next: the monitor runs it, handlers find its function, scripts give
many. It may import qmp, host and notation; never the machine side.
"""
