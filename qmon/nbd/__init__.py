"""The NBD protocol: constants, handshake, transmission, the server, the client.

It may import block, host and notation; the client may not import block.
"""
