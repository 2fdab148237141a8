"""An AMQP URL taken apart, with the parameters that aiormq knows: heartbeat, name, auth, and those of TLS."""

import base64
import ssl
from dataclasses import dataclass
from typing import Final

from aio_pika.connection import make_url
from yarl import URL

from quittance.broker import HEARTBEAT

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_LONGEST_HEARTBEAT: Final = 65_534


@dataclass(frozen=True)
class Address:
    """Where to connect, and as whom. `heartbeat` in seconds, 0 for none; `tls` None for plain TCP."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    heartbeat: int
    name: str
    mechanism: str
    tls: ssl.SSLContext | None


def parse(url: str, name: str) -> Address:
    """Raises ValueError where it is no AMQP URL, OSError where a certificate it names cannot be read."""
    address = make_url(url)
    if address.scheme not in _PORTS or not address.host:
        raise ValueError("not the address of an AMQP broker")
    query = address.query
    mechanism = query.get("auth", "plain").upper()
    if mechanism not in {"PLAIN", "EXTERNAL"}:
        raise ValueError(f"auth={mechanism.lower()} is neither plain nor external")
    return Address(
        host=address.host,
        port=address.port or _PORTS[address.scheme],
        user=address.user or "guest",
        password=address.password or "guest",
        vhost=address.path[1:].replace("%2F", "/") or "/",
        heartbeat=_heartbeat(query.get("heartbeat")),
        name=query.get("name", f"quittance {name}"),
        mechanism=mechanism,
        tls=_tls(address) if address.scheme == "amqps" else None,
    )


def _heartbeat(given: str | None) -> int:
    if given is None:
        return HEARTBEAT
    seconds = int(given) if given.isdecimal() else 0
    return seconds if seconds <= _LONGEST_HEARTBEAT else 0


def _tls(address: URL) -> ssl.SSLContext:
    query = address.query
    authorities = base64.b64decode(query["cadata"]) if "cadata" in query else None
    context = ssl.create_default_context(cafile=query.get("cafile"), capath=query.get("capath"), cadata=authorities)
    if certificate := query.get("certfile"):
        context.load_cert_chain(certificate, query.get("keyfile"))
    if query.get("no_verify_ssl", "0") != "0":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
