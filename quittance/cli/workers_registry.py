"""The workers, as the command line needs them: their queues and their handlers."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from quittance.broker import Queue
from workers import WORKERS
from workers.runtime.batch import Handler


@cache
def queues() -> Mapping[str, Queue]:
    """Every worker's queue, by name."""
    return MappingProxyType({name: module.QUEUE for name, module in WORKERS.items()})


@cache
def handlers() -> Mapping[str, Handler]:
    """Every worker's `handle`, by the name of its queue."""
    return MappingProxyType({name: module.handle for name, module in WORKERS.items()})
