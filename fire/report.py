"""The report: what was run, how often, and how long recovery took."""

import time

from bench.measure import machine
from fire.runs import Run, seconds

HEAD = """# Under fire

Written by `{command}`; not by hand. {at}, {machine}. {trials} trials in {minutes:.0f} minutes, {events:,} events accepted,
{rate:g} events/s; {good} of {trials} kept every promise in time.{skipped}

Each trial: the real processes (ingest, every worker and the relay by itself) against servers of their own (a Postgres and
a RabbitMQ node; three nodes, a standby or a small disk where the row is about those); complete lives whose quotes all end
`paid`; a fault in the middle of the stream. An event that is not answered 200 is sent again. Then the sets are compared:
every accepted event archived once, handled once by each worker that takes its type, every quote paid, its changes numbered
without a gap in the table, and at the CRM, where they come in order (a number may come twice with the same bytes), its mail
sent once (a few repeats with the same Message-ID where a process or Postgres is killed), nothing left in the outbox,
nothing parked but what is poison. Where the row is about Stripe's API, the buyers are guests who buy twice: each must have
exactly one customer at Stripe's stand-in.

`first 200`: seconds from the fault's end to the first event accepted. `all done`: to the last effect of the last event,
which includes the rest of the stream; `bound`: what is allowed for it.

| row | promise | accepted | refused, sent again | first 200 | all done | bound | kept |
|---|---|---|---|---|---|---|---|
"""


def markdown(run: Run, command: str, rate: float) -> str:
    """The report as a page."""
    verdicts = run.verdicts
    skipped = [f"`{name}` ({why})" for name, why in run.skipped.items()]
    lines = [
        HEAD.format(
            command=command,
            at=time.strftime("%Y-%m-%d"),
            machine=machine(),
            trials=len(verdicts),
            events=sum(one.accepted for one in verdicts),
            rate=rate,
            minutes=run.seconds / 60,
            skipped=f"\nNot to be tried on this machine: {', '.join(skipped)}." if skipped else "",
            good=sum(one.good for one in verdicts),
        )
    ]
    lines.extend(
        f"| {one.row} | {one.claim} | {one.accepted} | {one.refused} | {seconds(one.first_answer)} "
        f"| {seconds(one.recovered)} | {one.bound:.0f} s | {'yes' if one.good else f'**no**: {one.broken}'} |\n"
        for one in verdicts
    )
    noted = [f"- `{one.row}`: {note}\n" for one in verdicts for note in one.notes]
    return "".join([*lines, *(["\nMeasured besides:\n\n", *noted] if noted else [])])
