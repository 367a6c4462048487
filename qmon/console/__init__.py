"""What a person touches: the session at a terminal, its lexer, toolbar, key bindings and pasted text.

It may import hmp, qmp, host and notation.
"""
