"""Probes: empty messages with which `quittance doctor` asks whether a routing key reaches a queue, and anybody listens.

AMQP does not tell which bindings there are; but whoever consumes a queue can say what reached it. A probe is answered
with the queue's name to its `reply_to`, and settled: it never reaches a batch. One that nobody consumes waits in its
queue, is answered to nobody later, and is gone.
"""

from typing import Final

from pamqp.commands import Basic

from quittance.wire import Delivery, Wire

PROBE: Final = "probe"  # the header
# The broker's own names for exclusive queues, as the doctor's: nobody can have us write into a queue of ours, or of a
# third party, by sending a probe.
ANSWERED: Final = "amq.gen-"


def answer(channel: Wire, queue: str, probe: Delivery) -> None:
    """Say that `probe` came to `queue`, and settle it. On a channel that is lost nobody is told; the probe comes again."""
    about = probe.properties
    if about.reply_to.startswith(ANSWERED):
        channel.post(about.reply_to, queue.encode(), Basic.Properties(correlation_id=about.correlation_id or None))
    channel.ack(probe.tag, multiple=False)
