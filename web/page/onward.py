"""From the click on Check out to Stripe's page."""

from urllib.parse import urlsplit

from aiohttp import hdrs, web

from web.page.rendering import RENDERER
from web.page.words import accepted_locale, words_for


def onward(request: web.Request, url: str, *, locale: str | None = None) -> web.Response:
    """The answer to a click that leads to `url`: 303. Merchants may have Stripe's pages at a domain of their own, to which
    the page's policy lets no form lead: from a page of ours, which needs none, it goes on there.
    """
    renderer = request.app[RENDERER]
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" in renderer.checkout_origins:
        return web.Response(status=303, headers={hdrs.LOCATION: url})
    words = words_for(locale or accepted_locale(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")))
    return renderer.answer("onward.html", words, url=url)
