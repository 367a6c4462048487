"""One line, read once into a Reading: words, expressions, arguments, what in it is secret.

It may import the tables and nothing else of hmp but the prompt.
"""
