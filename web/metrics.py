"""What web counts, for Prometheus. Their meaning is in docs/operations.md."""

from typing import Final

from prometheus_client import Counter, Histogram

REQUESTS: Final = Counter("quittance_web_requests", "Requests answered, by route and status.", ["route", "status"])
SECONDS: Final = Histogram(
    "quittance_web_request_seconds",
    "From the first byte of a request until its answer.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PUBLISHED: Final = Counter(
    "quittance_web_publishes", "Attempts to publish: published, unchanged, conflict, refused.", ["outcome"]
)
BROKEN_RULES: Final = Counter("quittance_web_broken_rules", "Faults of quotes that were refused, by rule.", ["rule"])
EXPIRED: Final = Counter("quittance_web_expired", "Quotes that this process let expire.")
CLOCK_POSTPONED: Final = Counter("quittance_web_clock_postponed", "Rounds of the clock that the database prevented.")
CHECKOUTS: Final = Counter(
    "quittance_web_checkouts",
    "Clicks on Check out: sent to Stripe, shut, busy, away, refused, too_often, forged, unknown.",
    ["outcome"],
)
