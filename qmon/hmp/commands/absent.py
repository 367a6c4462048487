"""Commands about a CPU, memory, devices, networks or a screen: the target's own monitor runs the line.

A target without a monitor of its own has none of these: the line is answered from the one table of rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from qmon.hmp.handlers import ANSWER, MASK, Call, Conceal, Handler, handler
from qmon.hmp.line.secrets import SECRET_PROPERTIES
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.qmp.absent import ABSENT, Row

_CONNECTED = ("fail", "disconnect", "keep")
"""What set_password does with viewers that are connected."""


def _conceal_password(tables: Tables, values: Values) -> Mapping[str, str]:
    """Every argument that could be a password, since the arguments may be in a wrong order."""
    known = {"protocol": ("vnc", "spice"), "connected": _CONNECTED}
    return {key: MASK for key in values if values[key] not in known.get(key, ())}


def _conceal_property(tables: Tables, values: Values) -> Mapping[str, str]:
    if values["property"] not in SECRET_PROPERTIES:
        return {}
    return {"value": MASK} if "value" in values else {ANSWER: MASK}


_CONCEALS: dict[str, Conceal] = {
    "hmp_qom_get": _conceal_property,
    "hmp_qom_set": _conceal_property,
    "hmp_set_password": _conceal_password,
}


def _answering(row: Row) -> Handler:
    async def answer(call: Call) -> None:
        await call.pass_on(row.text.format_map(call.values), fails=bool(row.fails))

    return answer


def _add_handlers() -> None:
    for row in ABSENT:
        for name in row.hmp.split():
            handler(name, conceal=_CONCEALS.get(name))(_answering(row))


_add_handlers()
