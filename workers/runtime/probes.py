"""Probes: empty messages with which `quittance doctor` asks whether a routing key reaches a queue, and anybody listens.

AMQP does not tell which bindings there are; but whoever consumes a queue can say what reached it. A probe is answered
with the queue's name to its `reply_to`, and settled: it never reaches a batch. One that nobody consumes waits in its
queue, is answered to nobody later, and is gone.
"""

from typing import Final

from pamqp.commands import Basic

from quittance.wire import Delivery, Wire

PROBE: Final = "probe"  # the header


def answer(channel: Wire, queue: str, probe: Delivery) -> None:
    """Say that `probe` came to `queue`, and settle it. On a channel that is lost nobody is told; the probe comes again."""
    if probe.reply_to:
        channel.post(probe.reply_to, queue.encode(), Basic.Properties(correlation_id=probe.correlation_id or None))
    channel.ack(probe.tag, multiple=False)
