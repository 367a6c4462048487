"""One line, read once: words, expressions, arguments, what in it is secret.

It may import the tables; it knows no command.
"""
