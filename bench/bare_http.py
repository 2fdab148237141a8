"""The least that an aiohttp server can do with a webhook: read it, answer 200. Prints its port."""

import asyncio

import uvloop
from aiohttp import web


async def handle(request: web.Request) -> web.Response:
    """Read the body, say yes."""
    await request.read()
    return web.Response(body=b'{"received": true}', content_type="application/json")


async def serve() -> None:
    """On a free port of this machine, until we are told to stop."""
    app = web.Application()
    app.router.add_post("/webhooks/stripe", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
