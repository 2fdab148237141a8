"""Probes: empty messages with which `quittance doctor` asks whether a routing key reaches a queue, and anybody listens.

AMQP does not tell which bindings there are; but whoever consumes a queue can say what reached it. A probe is answered
with the queue's name to its `reply_to`, and settled: it never reaches a batch. One that nobody consumes waits in its
queue, is answered to nobody later, and is gone.
"""

from contextlib import suppress
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

PROBE: Final = "probe"  # the header
# The broker's own names for exclusive queues, as the doctor's: nobody can have us write into a queue of ours, or of a
# third party, by sending a probe.
ANSWERED: Final = "amq.gen-"


async def answer(channel: AbstractChannel, queue: str, message: DeliveredMessage) -> None:
    """Say that `message` came to `queue`, and settle it."""
    about = message.header.properties
    # A channel that is lost has nobody to answer; the probe comes again.
    with suppress(AMQPError, OSError, RuntimeError):
        if about.reply_to and about.reply_to.startswith(ANSWERED):
            properties = Basic.Properties(correlation_id=about.correlation_id)
            await channel.basic_publish(queue.encode(), routing_key=about.reply_to, properties=properties)
        await channel.basic_ack(message.delivery_tag or 0, wait=False)
