"""Pasted text: finds the commands in mails, wikis, chats and shell sessions. Pure.

It may import line and tables.
"""
