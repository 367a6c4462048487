"""A model of two QEMUs, their consoles, the line and a person, by the product's tables and resume rules.

What is assumed beside the tables:

- A console does a row's actions in order, and one row after the other. At the source a person's command or a
  lost connection ends an action before its end, except those in ``NOT_INTERRUPTED``.
- A connection between consoles keeps order. It may break at any moment, and either side may read on from it
  for a while. Each side notices the break by itself.
- A new console is started only when the guardian has gone: a QMP socket serves one client.
- A person cancels at any time, and resolves only by the rule in the notice's text.
"""
