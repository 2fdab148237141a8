"""The table of targets: what is met, what is not, and what was not measured."""

from pathlib import Path

import pytest

from bench.backlog import Backlog, Memory
from bench.limits import Limits
from bench.one_sender import OneSender
from bench.ratios import cost, in_turn, ratio
from bench.results import Measured, Peer, peers
from bench.runs import Fast, Steady
from bench.targets import NOT_RUN, NOT_TAKEN, Row, targets

LIMITS = Limits(http=40_000.0, publish=10_000.0, insert=50_000.0)


def fast(rate: float = 5_000.0, ours: float = 1.0) -> Fast:
    """10,000 events that took `ours` seconds of the workers' CPU, and far more of everybody else's."""
    return Fast(
        lives=1_000,
        events=10_000,
        bytes_per_event=3_600.0,
        accepted_rate=2 * rate,
        handled_rate=rate,
        handled={"archive": rate},
        answer_p50=0.001,
        answer_p99=0.002,
        refused=0,
        cpu={"quotes": ours, "broker": 9.0, "postgres": 9.0, "(CRM, SMTP, watching)": 9.0, "(sender)": 9.0},
        others=0.0,
        memory={},
        batches={},
        quotes={"paid": 1_000},
        failed=0,
    )


def latency(rate: float, p50: float, p99: float) -> Steady:
    return Steady(
        rate=rate,
        events=100,
        lives=10,
        seconds=1.0,
        refused=0,
        answer_p50=0.001,
        answer_p99=0.002,
        changes=10,
        change_p50=p50,
        change_p99=p99,
        change_max=p99,
        cpu={},
    )


def backlog(rate: float = 1_000.0, end: float = 100.0, latest: float = 0.0) -> Backlog:
    """10,000 events, drained while 500 came; the workers' memory is 90 MB at the start, 100 at the half."""
    return Backlog(
        events=10_000,
        stored_rate=5_000.0,
        drained_rate=rate,
        drain_seconds=10_000 / rate,
        memory={"quotes": Memory(90.0, 100.0, end), "broker": Memory(100.0, 900.0, 1_000.0)},
        mails_left=0,
        fresh_lives=60,
        fresh_events=500,
        fresh_answer_p50=0.001,
        fresh_answer_p99=0.002,
        fresh_changes=200,
        fresh_p50=5.0,
        fresh_p99=9.0,
        fresh_max=9.5,
        latest=latest,
        emptied=1.0,
    )


def row(rows: list[Row], beginning: str) -> Row:
    (found,) = [each for each in rows if each.what.startswith(beginning)]
    return found


def rows(found: Measured, given: list[Peer] | None = None) -> list[Row]:
    return targets(found, LIMITS, None, given or [])


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    table = targets(Measured(shape="apart"), None, None, [])
    assert len(table) == 14
    assert {each.met for each in table} == {None}
    assert {each.measured for each in table} == {NOT_TAKEN, NOT_RUN}


@pytest.mark.parametrize(("rate", "met"), [(5_000.0, True), (4_999.0, False)])
def test_the_rate_decides(rate: float, met: bool) -> None:
    table = rows(Measured(shape="apart", fast=fast(rate)))
    assert row(table, "handled by all workers").met is met
    share = row(table, "the same, of aio-pika's publish limit")
    assert (share.measured, share.met) == ("0.50 of 10,000/s", True)


@pytest.mark.parametrize(("seconds", "met"), [(1.5, True), (1.6, False)])
def test_only_our_own_processes_cost(seconds: float, met: bool) -> None:
    assert cost(fast(ours=seconds)) == pytest.approx(seconds * 100)
    assert row(rows(Measured(shape="apart", fast=fast(ours=seconds))), "CPU of ingest").met is met


def test_the_processes_of_another_instance_are_not_known() -> None:
    other = fast()
    other.cpu = {"(sender)": 1.0}
    assert row(rows(Measured(shape="", fast=other)), "CPU of ingest").measured == NOT_TAKEN


@pytest.mark.parametrize(
    ("rate", "p50", "p99", "met"),
    [(500, 0.009, 0.049, True), (500, 0.009, 0.051, False), (300, 0.009, 0.049, None), (300, 0.011, 0.049, False)],
)
def test_quick_at_a_lower_rate_says_nothing(rate: float, p50: float, p99: float, met: bool | None) -> None:
    assert row(rows(Measured(shape="apart", latency=latency(rate, p50, p99))), "POST to CRM").met is met


@pytest.mark.parametrize(
    ("drained", "met"),
    [
        (backlog(), True),
        (backlog(rate=999.0), False),
        (backlog(end=111.0), False),
        (backlog(latest=5.9), True),
        (backlog(latest=6.1), False),
    ],
)
def test_a_backlog_is_drained_fast_flat_and_in_turn(drained: Backlog, met: bool) -> None:
    assert row(rows(Measured(shape="apart", fast=fast(1_000.0), backlog=drained)), "a backlog of 10,000").met is met


def test_without_a_steady_rate_a_sound_drain_says_nothing() -> None:
    assert row(rows(Measured(shape="apart", backlog=backlog())), "a backlog of").met is None
    assert row(rows(Measured(shape="apart", backlog=backlog(end=200.0))), "a backlog of").met is False


def test_half_a_millisecond_is_written_so() -> None:
    one = OneSender(events=10, rate=2_000.0, answer_p50=0.0004, answer_p99=0.004)
    found = row(rows(Measured(shape="apart", one_sender=one)), "POST to 200 with one sender")
    assert (found.target, found.measured, found.met) == ("p50 0.5 ms, p99 5 ms", "p50 0.4 ms, p99 4 ms", True)


def test_a_peer_is_compared_with_what_we_did_in_the_same_minutes() -> None:
    celery = Peer(peer="fastapi-celery", processed_rate=400.0, ours_processed_rate=4_000.0)
    found = row(rows(Measured(shape="apart", fast=fast(8_000.0)), [celery]), "processed/s, to FastAPI")
    assert (found.measured, found.met) == ("10.0 times (4,000 to 400, in the same minutes)", False)


def test_a_peer_without_our_figure_is_compared_with_this_run() -> None:
    engine = Peer(peer="stripe-sync-engine", accepted_rate=5_000.0)
    found = row(rows(Measured(shape="apart", fast=fast(5_000.0)), [engine]), "accepted/s, to stripe-sync-engine")
    assert (found.measured, found.met) == ("2.0 times (10,000 to 5,000, not in the same minutes)", True)
    assert row(rows(Measured(shape="apart"), [engine]), "accepted/s, to stripe-sync").met is None


def test_the_peers_file_may_be_missing_broken_or_say_more_than_we_read(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    assert peers(file) == []
    file.write_text("[{]")
    assert peers(file) == []
    file.write_text('[{"peer": "dj-stripe", "processed_rate": 200.0, "accepted_rate": null, "note": "more"}]')
    assert [each.processed_rate for each in peers(file)] == [200.0]


def test_each_is_first_as_often_as_last() -> None:
    assert list(in_turn("a", "b", 3)) == ["a", "b", "b", "a", "a", "b"]


def test_a_slow_minute_of_the_machine_is_in_both_figures() -> None:
    assert ratio([100.0, 10.0, 90.0], [200.0, 20.0, 100.0]) == 0.5
