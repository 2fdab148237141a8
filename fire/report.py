"""The report: what was run, how often, and how long recovery took."""

import platform
import time
from collections.abc import Sequence

from fire.trial import Verdict

HEAD = """# Under fire

Written by `{command}`; not by hand. {at}, {machine}. {trials} trials, {events:,} events accepted, {rate:g} events/s;
{good} of {trials} kept every promise in time.

Each trial: the real processes (ingest, every worker and the relay by itself) against a Postgres and a RabbitMQ node of
their own; complete lives whose quotes all end `paid`; a fault in the middle of the stream. An event that is not answered
200 is sent again. Then the sets are compared: every accepted event archived once, handled once by each worker that takes
its type, every quote paid, its changes numbered without a gap in the table and at the CRM (a number may come twice with
the same bytes), its mail sent once (a few repeats with the same Message-ID where a process or Postgres is killed), nothing
left in the outbox, nothing parked.

`first 200`: seconds from the fault's end to the first event accepted. `all done`: to the last effect of the last event,
which includes the rest of the stream; `bound`: what is allowed for it.

| row | promise | accepted | refused, sent again | first 200 | all done | bound | kept |
|---|---|---|---|---|---|---|---|
"""


def seconds(given: float | None) -> str:
    """Seconds as text; or never."""
    return "never" if given is None else f"{given:.1f} s"


def markdown(verdicts: Sequence[Verdict], command: str, rate: float) -> str:
    """The report as a page."""
    lines = [
        HEAD.format(
            command=command,
            at=time.strftime("%Y-%m-%d"),
            machine=f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
            trials=len(verdicts),
            events=sum(one.accepted for one in verdicts),
            rate=rate,
            good=sum(one.good for one in verdicts),
        )
    ]
    lines.extend(
        f"| {one.row} | {one.claim} | {one.accepted} | {one.refused} | {seconds(one.first_answer)} "
        f"| {seconds(one.recovered)} | {one.bound:.0f} s | {'yes' if one.good else f'**no**: {one.broken}'} |\n"
        for one in verdicts
    )
    return "".join(lines)
