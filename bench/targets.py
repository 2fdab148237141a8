"""The targets, each with what was measured beside it. What was not measured says why, and counts as nothing."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bench.backlog import Backlog
from bench.growth import Growth
from bench.ingress import Ingress
from bench.instance import BESIDE
from bench.limits import Limits
from bench.ratios import SERVERS, cost
from bench.results import Measured, Peer
from bench.runs import Fast, Steady

HANDLED: Final = 5_000.0  # events/s
OF_PUBLISH_LIMIT: Final = 0.35
OF_BARE: Final = 0.45
COST: Final = 150.0  # microseconds of CPU
RATE: Final = 500.0  # events/s
CHANGE: Final = (0.010, 0.050)  # seconds, p50 and p99
ANSWER: Final = (0.0005, 0.005)
GROWTH: Final = 1.2
FLUSH: Final = 0.7
TWICE: Final = 1.2  # no target says how much; more than noise
FLAT: Final = 1.1  # memory at the end of a drain to that at its half
# A word of the peer's name: by what we should be faster, and in what.
PEERS: Final = {
    "celery": ("FastAPI + SQLAlchemy + Celery", 12.0, "processed"),
    "procrastinate": ("procrastinate", 9.0, "processed"),
    "dj-stripe": ("dj-stripe", 25.0, "processed"),
    "sync-engine": ("stripe-sync-engine, its API call cut out", 2.0, "accepted"),
}
NOT_TAKEN: Final = "not taken"
NOT_RUN: Final = "not run: python -m bench.peers"


class Row(NamedTuple):
    """One target. `met`: None where that cannot be said."""

    what: str
    target: str
    measured: str
    met: bool | None


def targets(found: Measured, limits: Limits | None, ingress: Ingress | None, peers: Sequence[Peer]) -> list[Row]:
    """The table, in the order of the issue's."""
    return [
        *_handled(found.fast, limits),
        *_peers(found.fast, peers),
        _ingress(ingress),
        _cost(found.fast),
        _change(found.latency),
        _one_sender(found),
        _backlog(found.backlog, found.fast),
        _growth(found.growth),
        _flush(found),
        _twice(found),
    ]


def _row(what: str, target: str, measured: str | None = None, met: bool | None = None) -> Row:
    return Row(what, target, NOT_TAKEN if measured is None else measured, met)


def _milliseconds(times: tuple[float, float]) -> str:
    p50, p99 = (f"{each * 1000:.1f}".removesuffix(".0") for each in times)
    return f"p50 {p50} ms, p99 {p99} ms"


def _handled(fast: Fast | None, limits: Limits | None) -> Iterator[Row]:
    what, target = "handled by all workers, events/s", f"{HANDLED:,.0f}, aim 8,000"
    share, of = "the same, of aio-pika's publish limit", f"{OF_PUBLISH_LIMIT}, aim 0.55"
    if fast is None:
        yield _row(what, target)
        yield _row(share, of)
        return
    yield _row(what, target, f"{fast.handled_rate:,.0f}", fast.handled_rate >= HANDLED)
    if limits is None or not limits.publish:
        yield _row(share, of, "limit not taken")
        return
    ratio = fast.handled_rate / limits.publish
    yield _row(share, of, f"{ratio:.2f} of {limits.publish:,.0f}/s", ratio >= OF_PUBLISH_LIMIT)


def _peers(fast: Fast | None, peers: Sequence[Peer]) -> Iterator[Row]:
    for word, (name, times, what) in PEERS.items():
        peer = next((each for each in peers if word in each.peer.lower()), None)
        yield _peer(_Wanted(f"{what}/s, to {name}", times, what), fast, peer)


class _Wanted(NamedTuple):
    title: str
    times: float
    what: str


def _peer(wanted: _Wanted, fast: Fast | None, peer: Peer | None) -> Row:
    target = f"{wanted.times:.0f} times"
    theirs = None if peer is None else getattr(peer, f"{wanted.what}_rate")
    if peer is None or not theirs:
        return Row(wanted.title, target, NOT_RUN, None)
    ours, when = getattr(peer, f"ours_{wanted.what}_rate"), "in the same minutes"
    if ours is None:
        if fast is None:
            return Row(wanted.title, target, f"theirs {theirs:,.0f}/s; ours {NOT_TAKEN}", None)
        ours, when = fast.handled_rate if wanted.what == "processed" else fast.accepted_rate, "not in the same minutes"
    ratio = peer.ratio or ours / theirs
    return Row(wanted.title, target, f"{ratio:.1f} times ({ours:,.0f} to {theirs:,.0f}, {when})", ratio >= wanted.times)


def _ingress(ingress: Ingress | None) -> Row:
    what, target = "ingest alone, accepted/s, to bare aiohttp", f"{OF_BARE}"
    if ingress is None:
        return _row(what, target)
    rates = [sorted(each.rate for each in side) for side in (ingress.ours, ingress.bare)]
    ours, bare = (each[len(each) // 2] for each in rates)
    return _row(what, target, f"{ingress.share:.2f} ({ours:,.0f} to {bare:,.0f})", ingress.share >= OF_BARE)


def _cost(fast: Fast | None) -> Row:
    what, target = "CPU of ingest, workers, relay for an event", f"{COST:.0f} us, aim 90"
    if fast is None or BESIDE not in fast.cpu:
        return _row(what, target)
    return _row(what, target, f"{cost(fast):.0f} us", cost(fast) <= COST)


def _change(latency: Steady | None) -> Row:
    what, target = f"POST to CRM event at {RATE:.0f} events/s", _milliseconds(CHANGE)
    if latency is None:
        return _row(what, target)
    took = latency.change_p50, latency.change_p99
    quick, enough = took[0] < CHANGE[0] and took[1] < CHANGE[1], latency.rate >= 0.95 * RATE
    # Quick at a lower rate says nothing; slow at a lower rate does.
    met = False if not quick else True if enough else None
    return _row(what, target, f"{_milliseconds(took)}, at {latency.rate:.0f}/s", met)


def _one_sender(found: Measured) -> Row:
    what, target, one = "POST to 200 with one sender", _milliseconds(ANSWER), found.one_sender
    if one is None:
        return _row(what, target)
    took = one.answer_p50, one.answer_p99
    return _row(what, target, _milliseconds(took), took[0] < ANSWER[0] and took[1] < ANSWER[1])


def memory_of_ours(backlog: Backlog) -> tuple[float, float, float]:
    """MB of ingest, workers and relay together: at the start of the drain, at its half, at its end."""
    ours = [each for name, each in backlog.memory.items() if name not in SERVERS and name != BESIDE]
    return sum(each.start for each in ours), sum(each.half for each in ours), sum(each.end for each in ours)


def _backlog(backlog: Backlog | None, fast: Fast | None) -> Row:
    target = "the steady rate, memory flat, new events not starved"
    if backlog is None:
        return _row("a backlog of 1,000,000 events", target)
    start, half, end = memory_of_ours(backlog)
    steady = "" if fast is None else f" ({backlog.drained_rate / fast.handled_rate:.2f} of steady)"
    measured = (
        f"{backlog.drained_rate:,.0f}/s{steady}; {start:.0f}, {half:.0f}, {end:.0f} MB; new events "
        f"{'starved' if backlog.starved else 'in turn'} (the last {backlog.latest:+.1f} s from the drain's end, nothing left "
        f"{backlog.emptied:+.1f} s)"
    )
    sound = end <= FLAT * half and not backlog.starved
    met = None if fast is None and sound else sound and fast is not None and backlog.drained_rate >= fast.handled_rate
    return _row(f"a backlog of {backlog.events:,} events", target, measured, met)


def _growth(growth: Growth | None) -> Row:
    target = f"{GROWTH} of the empty database's, with 10,000,000 rows and 1,000,000 quotes"
    if growth is None:
        return _row("growth: cost of an event", target)
    rows = growth.filled.rows
    what = f"growth: cost of an event, {rows['events']:,} rows, {rows['quotes']:,} quotes"
    cost, rate = growth.rounds.cost_share, growth.rounds.rate_share
    return _row(what, target, f"{cost:.2f}; the rate {rate:.2f}", cost <= GROWTH)


def _flush(found: Measured) -> Row:
    what, target, flush = "a disk that flushes (commit_delay)", f"{FLUSH} of the rate without", found.flush
    if flush is None:
        return _row(what, target)
    return _row(what, target, f"{flush.rate_share:.2f}", flush.rate_share >= FLUSH)


def _twice(found: Measured) -> Row:
    what, target, twice = "two of each worker", "cost of an event does not grow", found.twice
    if twice is None:
        return _row(what, target)
    measured = f"CPU {twice.cost_share:.2f}, rate {twice.rate_share:.2f} of one of each"
    return _row(what, target, measured, twice.cost_share <= TWICE)
