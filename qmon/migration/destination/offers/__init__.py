"""Checks whether an offered migration fits this side: drives, contents, space.

It changes nothing but what a copy prepares: empty images are opened to be filled.
"""
