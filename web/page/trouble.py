"""The pages for what goes wrong under /q/: they say what the buyer can do, and try again by themselves where that helps."""

from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Final, Literal

from aiohttp import hdrs, web

from web.page.rendering import RENDERER
from web.page.words import Words, accepted_locale, words_for

MOST_AGAIN: Final = 5  # times that a page sends the click again by itself
USUAL_WAIT: Final = 5.0  # seconds


@dataclass(frozen=True)
class Retry:
    """How a page tries again: after `seconds`; `count` is how often it has, `automatic` whether it still may."""

    seconds: int
    count: int
    automatic: bool


def render_trouble(
    request: web.Request,
    status: int,
    *,
    token: str | None = None,
    retry_after: float | None = None,
    again: Literal["checkout"] | None = None,
    locale: str | None = None,
) -> web.Response:
    """The page for an answer that is none.

    `token`: of a quote that there is; the page leads back to it. `retry_after` in seconds. `again`: what failed was the
    click on Check out, and the page sends it again. `locale`: the quote's where it is known, else the browser's.
    """
    if status == 403:
        token = token or request.match_info.get("token")  # of the address that was asked for: nothing is told by it
    words = words_for(locale or accepted_locale(request.headers.get(hdrs.ACCEPT_LANGUAGE, "")))
    passing = status in {429, 503}
    headers = {} if retry_after is None else {str(hdrs.RETRY_AFTER): str(max(1, ceil(retry_after)))}
    title, text = words_of(status, words)
    retry = _retry(request, retry_after, again) if passing else None
    _ = words.gettext
    if retry is not None and not retry.automatic:
        text = _("Please try again in a few minutes.")
    return request.app[RENDERER].answer(
        "trouble.html",
        words,
        status=status,
        headers=headers,
        title=title,
        text=text,
        token=token,
        again=again if token is not None else None,
        retry=retry,
    )


def words_of(status: int, words: Words) -> tuple[str, str]:
    """Heading and sentence for a status."""
    _ = words.gettext
    said = {
        403: (
            _("This click came from another website"),
            _("For your safety it was not followed. Open the quote from its own address, and check out there."),
        ),
        404: (
            _("There is no quote at this address"),
            _(
                "The address may not be complete. Open it again from the message in which you got it, or ask the seller."
            ),
        ),
        502: (
            _("Stripe did not accept this quote"),
            _("Nothing has been charged. Please tell the seller, who can see the reason."),
        ),
        429: (
            _("One moment, please"),
            _("There were many requests within a short time. This page goes on in a moment."),
        ),
        503: (
            _("We cannot answer just now"),
            _("This should pass within a moment. This page tries again by itself."),
        ),
    }
    if status in said:
        return said[status]
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _("That did not work"), _("The request could not be understood. Open the quote again from its address.")
    return _("Something went wrong on our side"), _("We have been told. Please try again later.")


def _retry(request: web.Request, retry_after: float | None, again: str | None) -> Retry:
    given = request.query.get("again", "")
    count = int(given) if given.isascii() and given.isdigit() and len(given) <= 2 else 0
    # Each page in a row waits longer, so that many who wait do not keep down what is getting up.
    seconds = ceil(max(retry_after or 0, USUAL_WAIT) * (1 + min(count, 10) / 2))
    return Retry(seconds, count + 1, again is None or count < MOST_AGAIN)
