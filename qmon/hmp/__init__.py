"""The human monitor: reads a line, finds its command, and runs it as QMP commands.

Its rooms, from the top: fronts, editing, commands, pasting, line, tables. Each imports those below it. The
modules beside the rooms connect them: ``monitor`` runs a line, ``handlers`` finds its function, ``scripts``
reads many lines. It may import qmp, host and notation; never the machine side.
"""
