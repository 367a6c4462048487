"""What the operating system provides: sockets, descriptors, threads, paths, logs.

It may import notation and errors.
"""
