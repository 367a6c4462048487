"""The versions of TLS that a GnuTLS priority string allows, as far as OpenSSL has a word for it."""

from __future__ import annotations

import ssl

from qmon.errors import CommandError

_BASES = ("NORMAL", "SECURE128", "SECURE192", "SECURE256", "PFS", "@SYSTEM")
_VERSIONS = {"VERS-TLS1.2": "TLSv1_2", "VERS-TLS1.3": "TLSv1_3"}


def set_versions(context: ssl.SSLContext, priority: str | None) -> None:
    """Set the versions of TLS that a GnuTLS priority string allows: 1.2 and 1.3, or one of them.

    Raises CommandError for what has no counterpart in OpenSSL.
    """
    base, *changes = (priority or "NORMAL").split(":")
    versions = dict.fromkeys(_VERSIONS.values(), True)
    for change in changes:
        sign, name = change[:1], change[1:]
        wanted = [_VERSIONS[name]] if name in _VERSIONS else []
        if name in ("VERS-ALL", "VERS-TLS-ALL"):
            wanted = list(versions)
        elif sign == "-" and name in ("VERS-TLS1.0", "VERS-TLS1.1", "VERS-SSL3.0"):
            continue
        if sign not in ("-", "+") or not wanted:
            base = ""
        versions.update(dict.fromkeys(wanted, sign == "+"))
    if base not in _BASES or not any(versions.values()):
        raise CommandError(
            f"priority '{priority}' is not supported: use NORMAL, NORMAL:-VERS-TLS1.2 or NORMAL:-VERS-TLS1.3"
        )
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if versions["TLSv1_2"] else ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if versions["TLSv1_3"] else ssl.TLSVersion.TLSv1_2
