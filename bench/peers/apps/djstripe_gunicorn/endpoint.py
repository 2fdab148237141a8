"""`python -m djstripe_gunicorn.endpoint UUID` adds the webhook endpoint, as the admin's form would."""

import os
import sys

import django

django.setup()

from djstripe.models import WebhookEndpoint  # noqa: E402 - needs the setup

if __name__ == "__main__":
    WebhookEndpoint.objects.create(
        id="we_benchmark",
        djstripe_uuid=sys.argv[1],
        livemode=False,
        url=f"https://shop.example.com/stripe/webhook/{sys.argv[1]}/",
        secret=os.environ["STRIPE_WEBHOOK_SECRET"],
        status="enabled",
        enabled_events=["*"],
    )
