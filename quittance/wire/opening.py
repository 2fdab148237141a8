"""Connecting: from a URL to a wire that can be used."""

import asyncio
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pamqp.commands import Channel, Confirm, Connection
from pamqp.frame import marshal

from quittance.addresses import first_to_answer
from quittance.broker import CONNECT_TIMEOUT, BrokerAway
from quittance.wire import address as addresses
from quittance.wire import frames
from quittance.wire.address import Address
from quittance.wire.parser import FIRST_FRAME_MAX
from quittance.wire.wire import Wire

_SMALLEST_FRAME_MAX: Final = 4096  # which every peer must take
_CAPABILITIES: Final = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


@asynccontextmanager
async def connected(url: str, name: str, *, confirms: bool) -> AsyncIterator[Wire]:
    """A wire for the length of a block. Raises BrokerAway."""
    wire = await connect(url, name, confirms=confirms)
    try:
        yield wire
    finally:
        await wire.close()


async def connect(url: str, name: str, *, confirms: bool) -> Wire:
    """Connect to the first of the addresses in `url` that answers; not to be restored: whoever holds the wire connects
    anew at its own pace. Raises BrokerAway.
    """
    return await first_to_answer(url, lambda one: _connect(one, name, confirms=confirms), Wire.close, BrokerAway)


async def _connect(url: str, name: str, *, confirms: bool) -> Wire:
    try:
        to = addresses.parse(url, name)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, wire = await asyncio.get_running_loop().create_connection(
                Wire, to.host, to.port, ssl=to.tls, server_hostname=to.host if to.tls else None
            )
            try:
                await _open(wire, to, confirms=confirms)
            except BaseException:
                wire.abort("not opened")
                raise
    except TimeoutError:
        raise BrokerAway(f"no connection within {CONNECT_TIMEOUT:g} s") from None
    except (OSError, ValueError) as error:  # the network's faults, TLS' among them, and the URL's
        raise BrokerAway(f"{type(error).__name__}: {error}") from error
    return wire


async def _open(wire: Wire, to: Address, *, confirms: bool) -> None:
    """The handshake, the channel."""
    start = await wire.ask(frames.PROTOCOL_HEADER, Connection.Start)
    if to.mechanism not in start.mechanisms.split():
        raise BrokerAway(f"the broker does not know {to.mechanism}")
    response = f"\0{to.user}\0{to.password}" if to.mechanism == "PLAIN" else ""
    start_ok = Connection.StartOk(_properties(to.name), to.mechanism, response)
    tune = await wire.ask(marshal(start_ok, 0), Connection.Tune)
    frame_max = min(tune.frame_max or FIRST_FRAME_MAX, FIRST_FRAME_MAX)
    if frame_max < _SMALLEST_FRAME_MAX:
        raise BrokerAway(f"the broker wants frames of {frame_max} bytes")
    tune_ok = Connection.TuneOk(channel_max=tune.channel_max, frame_max=frame_max, heartbeat=to.heartbeat)
    wire.tuned(frame_max, to.heartbeat)
    opening = marshal(tune_ok, 0) + marshal(Connection.Open(virtual_host=to.vhost), 0)
    await wire.ask(opening, Connection.OpenOk)
    await wire.call(Channel.Open(), Channel.OpenOk)
    if confirms:
        await wire.call(Confirm.Select(), Confirm.SelectOk)
        wire.confirming = True


def _properties(name: str) -> dict[str, Any]:
    """What the broker shows of us in its lists."""
    return {
        "product": "quittance",
        "platform": f"{platform.python_implementation()} {platform.python_version()}",
        "connection_name": name,
        "capabilities": dict(_CAPABILITIES),
    }
