"""What the workers and the relay count, for Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)

HANDLED: Final = Counter("quittance_events_handled", "Events that a worker handled", ["queue"])
DUPLICATES: Final = Counter("quittance_events_duplicate", "Deliveries of events handled before", ["queue"])
RETRIED: Final = Counter("quittance_events_retried", "Attempts that failed and will be repeated", ["queue"])
DEAD: Final = Counter("quittance_events_dead_lettered", "Events given up", ["queue", "reason"])
AGAIN: Final = Counter("quittance_batches_again", "Batches that lost a race in Postgres and ran again", ["queue"])
BATCH: Final = Histogram(
    "quittance_batch_events", "Events per transaction", ["queue"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 300)
)
HANDLER_SECONDS: Final = Histogram(
    "quittance_batch_seconds", "From a batch's BEGIN to its COMMIT", ["queue"], buckets=SECONDS
)
HANDLED_LAG: Final = Histogram(
    "quittance_handled_lag_seconds", "From acceptance by the ingress to handled", ["queue"], buckets=SECONDS
)
BUSY: Final = Gauge(
    "quittance_busy_seconds", "How long a loop has been at the batch or the step that it is in the middle of", ["loop"]
)
CONSUMING: Final = Gauge("quittance_consuming", "1 while the queue is being consumed", ["queue"])

RELAYED: Final = Counter("quittance_outbox_relayed", "Rows that the broker confirmed", ["destination"])
REFUSED: Final = Counter("quittance_outbox_refused", "Publishes that the broker did not take", ["destination"])
REPLIES_DROPPED: Final = Counter("quittance_replies_dropped", "Answers to the CRM whose queue was not there")
OUTBOX_DEPTH: Final = Gauge("quittance_outbox_rows", "Rows not published yet (counted up to 100,000)", ["destination"])
OUTBOX_AGE: Final = Gauge("quittance_outbox_age_seconds", "Age of the oldest row not published yet", ["destination"])
CREATED_LAG: Final = Histogram(
    "quittance_relayed_created_lag_seconds",
    "From Stripe's `created` to the broker's confirm",
    ["destination"],
    buckets=SECONDS,
)
ACCEPTED_LAG: Final = Histogram(
    "quittance_relayed_accepted_lag_seconds",
    "From acceptance by the ingress to the broker's confirm",
    ["destination"],
    buckets=SECONDS,
)
REDELIVERED: Final = Counter(
    "quittance_failed_deliveries_sent_again", "Failed deliveries sent to their queue", ["queue"]
)

PERFORMED: Final = Counter("quittance_performed", "Attempts on the outside world", ["queue", "outcome"])
BREAKER_OPEN: Final = Gauge(
    "quittance_breaker_open", "1 while a destination outside is left alone", ["queue", "destination"]
)
