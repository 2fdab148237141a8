"""The endpoint: verify, store the job, answer. The job, with the whole event, is committed before the 200.

gunicorn procrastinate_aiohttp.web:application --workers 2 --worker-class aiohttp.GunicornUVLoopWebWorker
"""

import json
import os
from collections.abc import AsyncIterator

import stripe
from aiohttp import web

from procrastinate_aiohttp.tasks import app, process_event

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]


async def receive(request: web.Request) -> web.Response:
    """Stripe's webhook."""
    payload = await request.read()
    try:
        stripe.Webhook.construct_event(payload, request.headers.get("Stripe-Signature", ""), SECRET)
    except (ValueError, stripe.SignatureVerificationError) as refused:
        raise web.HTTPBadRequest from refused
    await process_event.defer_async(event=json.loads(payload))
    return web.json_response({"received": True})


async def opened(_: web.Application) -> AsyncIterator[None]:
    """Procrastinate's connections, as long as the server runs."""
    async with app.open_async():
        yield


async def application() -> web.Application:
    """Gunicorn calls this in each of its workers."""
    made = web.Application()
    made.router.add_post("/webhooks/stripe", receive)
    made.cleanup_ctx.append(opened)
    return made
