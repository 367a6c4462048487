"""The NBD protocol: constants, handshake, transmission, the server.

It may import block, host and notation.
"""
