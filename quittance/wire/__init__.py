"""AMQP 0-9-1 on the hot path: one connection with one channel, on pamqp, without an object, a task or a timer for each
message. aio-pika (quittance/broker.py) does everything else.

What may be relied on: every publish gets its own answer within its time; every waiter learns of a lost broker at once,
as BrokerAway, never as a cancellation; `lost` says so to who does not wait. A connection counts as lost when either side
closed it, nothing was heard for two heartbeats, the broker closed the channel, cancelled the consumer, or sent what is
no AMQP. Nothing is restored: whoever holds a wire connects anew.
"""

from quittance.wire.frames import Delivery, Properties
from quittance.wire.opening import connect, connected
from quittance.wire.wire import Wire

__all__ = ["Delivery", "Properties", "Wire", "connect", "connected"]
