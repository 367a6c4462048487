"""What the source and the destination send each other: codecs and transports, pure if possible.

It may import notation, and nothing else of migration.
"""
