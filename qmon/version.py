"""The version, in one place: read by the packaging, by ``-version`` and by ``query-version``."""

VERSION = "0.1.0"
