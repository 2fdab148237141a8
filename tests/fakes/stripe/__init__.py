"""A stand-in for Stripe: one server that behaves like Stripe for what Quittance calls, and sends signed webhooks.

    async with StripeApi.running() as stripe:
        stripe.webhooks.to(f"{ingest.url}/webhooks/stripe", "whsec_test")
        …                                     # STRIPE_API_KEY=KEY, STRIPE_API_BASE=stripe.url
        onward = await stripe.pay(session_url)
        await stripe.webhooks.delivered()

Written after Stripe's documentation and API reference. Parameters are checked against those that Stripe publishes with
its SDK (parameters.py), sessions against Stripe's own rules (sessions.py, pricing.py, money.py); idempotency keys are
kept as Stripe keeps them (idempotency.py). The objects and events are those of dev/story.py.
"""

from tests.fakes.stripe.buyer import NotOpen
from tests.fakes.stripe.faults import Fault
from tests.fakes.stripe.server import KEY, LIVE_KEY, StripeApi
from tests.fakes.stripe.shapes import Call, Place
from tests.fakes.stripe.webhooks import Endpoint

__all__ = ["KEY", "LIVE_KEY", "Call", "Endpoint", "Fault", "NotOpen", "Place", "StripeApi"]
