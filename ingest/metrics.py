"""What the ingress counts, for Prometheus. What to watch of them is in docs/operations.md."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED: Final = Counter("quittance_ingest_accepted", "Webhooks answered 200: confirmed by the broker.")
REFUSED: Final = Counter("quittance_ingest_refused", "Webhooks answered otherwise, by reason.", ["reason"])
CONFIRM_SECONDS: Final = Histogram(
    "quittance_ingest_confirm_seconds",
    "From handing an event to the broker until it confirmed it.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4),
)
IN_FLIGHT: Final = Gauge("quittance_ingest_in_flight", "Events handed to the broker and not confirmed yet.")
BROKER_UP: Final = Gauge("quittance_ingest_broker_up", "1 while the broker can be used: connected and not blocked.")
SECRETS: Final = Gauge("quittance_ingest_secrets", "Webhook secrets that are tried.")
SECRETS_STALE: Final = Gauge("quittance_ingest_secrets_stale", "1 after a rotation failed: the old secrets are kept.")
