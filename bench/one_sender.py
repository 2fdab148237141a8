"""POST to 200 with one sender: one connection, the next event when the last was answered, all workers at work.

From the request's first byte, signed before the clock starts, to the whole answer; confirmed by the broker before the 200.
"""

from msgspec import Struct

from bench.bodies import events_per_life, fresh_run
from bench.measure import percentile
from bench.runs import handled, load
from bench.target import Target


class OneSender(Struct, kw_only=True):
    """Times in seconds."""

    events: int
    rate: float
    answer_p50: float
    answer_p99: float


async def measure(target: Target, posts: int) -> OneSender:
    """That many events, rounded to complete lives."""
    run = fresh_run()
    job = target.job(run, max(2, round(posts / events_per_life(run))), 1, signed_before=True)
    sent = await load(job, target)
    await target.settled()
    await handled(target.db, run, sent.events, sent.began)
    return OneSender(
        events=sent.events,
        rate=sent.events / (sent.ended - sent.began),
        answer_p50=percentile(sent.answer_times, 0.5),
        answer_p99=percentile(sent.answer_times, 0.99),
    )
