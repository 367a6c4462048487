"""The numbers of the NBD protocol, named as in its document (doc/proto.md) without the prefixes.

The document: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. Extended headers are in the
document's branch extension-ext-header.
"""

from __future__ import annotations

import enum
import struct

# "Newstyle negotiation", "Fixed newstyle negotiation", "Request message" and the two replies
INIT_PASSWD = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
EXTENDED_REQUEST_MAGIC = 0x21E41C71
EXTENDED_REPLY_MAGIC = 0x6E8A278C

GREETING = struct.Struct(">QQH")
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")
EXPORT_NAME_REPLY = struct.Struct(">QH")
REQUEST = struct.Struct(">IHHQQI")
"""magic, command flags, type, cookie, offset, length"""
EXTENDED_REQUEST = struct.Struct(">IHHQQQ")
"""The same fields as REQUEST, with a length of 64 bits."""
SIMPLE_REPLY = struct.Struct(">IIQ")
"""magic, error, cookie"""
CHUNK = struct.Struct(">IHHQI")
"""magic, flags, type, cookie, length of the payload"""
DATA_CHUNK = struct.Struct(">IHHQIQ")
"""The head of a chunk of type OFFSET_DATA: the fields of CHUNK and the offset."""
EXTENDED_CHUNK = struct.Struct(">IHHQQQ")
"""magic, flags, type, cookie, offset of the request, length of the payload"""
EXTENDED_DATA_CHUNK = struct.Struct(">IHHQQQQ")
"""The head of a chunk of type OFFSET_DATA: the fields of EXTENDED_CHUNK and the offset of the data."""

MAX_STRING = 4096
"""The longest name or message in bytes ("Conventions")."""
MINIMUM_BLOCK = 1
PREFERRED_BLOCK = 4096
MAX_PAYLOAD = 1 << 25
"""The most bytes that one request reads or writes: the default of "Size constraints"."""


class HandshakeFlag(enum.IntFlag):
    """ "Handshake flags" NBD_FLAG_*, and the "Client flags" NBD_FLAG_C_* of the same values."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class TransmissionFlag(enum.IntFlag):
    """ "Transmission flags" NBD_FLAG_*."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11
    BLOCK_STATUS_PAYLOAD = 1 << 12


class Option(enum.IntEnum):
    """ "Option types" NBD_OPT_*."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class OptionReply(enum.IntEnum):
    """ "Option reply types" NBD_REP_*."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_PLATFORM = (1 << 31) + 4
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_BLOCK_SIZE_REQD = (1 << 31) + 8
    ERR_TOO_BIG = (1 << 31) + 9
    ERR_EXT_HEADER_REQD = (1 << 31) + 10


class Info(enum.IntEnum):
    """Information types NBD_INFO_* ("Option reply types", NBD_REP_INFO)."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(enum.IntEnum):
    """ "Request types" NBD_CMD_*."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(enum.IntFlag):
    """ "Command flags" NBD_CMD_FLAG_*."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4
    PAYLOAD_LEN = 1 << 5


class ReplyType(enum.IntEnum):
    """ "Structured reply types" NBD_REPLY_TYPE_*."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    BLOCK_STATUS_EXT = 6
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


REPLY_FLAG_DONE = 1 << 0

ALLOCATION_CONTEXT = "base:allocation"


class State(enum.IntFlag):
    """The flags NBD_STATE_* of the context "base:allocation"."""

    HOLE = 1 << 0
    ZERO = 1 << 1


class Error(enum.IntEnum):
    """ "Error values" NBD_E*. They are the protocol's numbers, not the host's ``errno``."""

    NONE = 0
    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108
