"""What passes between the two sides: codecs and transports, pure where possible.

It may import notation, and nothing else of migration.
"""
