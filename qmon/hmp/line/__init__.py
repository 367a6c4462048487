"""Reads a line once, into a Reading: words, expressions, arguments, secrets.

It may import the tables and nothing else of hmp but the prompt.
"""
