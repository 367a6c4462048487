"""The report of a migration: one HTML page, made of the results of queries. Pure; the caller writes the file.

It may import notation. A name or text in a result may come from a peer: ``text.escaped`` is the only way in.
"""
