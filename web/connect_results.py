"""What a person reads who has connected an account, or has not: the pages at the end of the way (R6). In English."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Final

from aiohttp import hdrs, web

from web.connect_states import Refusal
from web.page.rendering import RENDERER
from web.page.words import languages

AGAIN: Final = "Ask for a new link where you got this one, and open it in this browser."
CLOSE: Final = "You can close this window."
# The page's address has had secrets in it: no link and no picture of it may tell anybody.
PRIVATE: Final = {"Referrer-Policy": "no-referrer"}


@dataclass(frozen=True)
class Result:
    """A page: its heading, what it says, and the status that it is answered with; `outcome` for our table and logs."""

    outcome: str
    status: int
    title: str
    says: tuple[str, ...]
    account: str = ""
    mode: str = ""

    @property
    def tone(self) -> str:
        """Which of the pages' looks it has."""
        if self.status == 200:
            return "good" if self.outcome == "connected" else "waiting"
        return "closed" if self.outcome in {"access_denied", "used"} else "trouble"

    def about(self, name: str | None, account: str, livemode: bool) -> "Result":
        """The same, of an account."""
        shown = f"{name} ({account})" if name else account
        return replace(self, account=shown, mode="live mode" if livemode else "test mode")


ACCESS_DENIED: Final = Result(
    "access_denied",
    403,
    "Not connected",
    ("You did not allow the connection on Stripe's page. Nothing has changed.", AGAIN),
)
NOT_VALID: Final = Result(
    "not_valid",
    404,
    "This link leads nowhere",
    ("A link to connect a Stripe account works once, for ten minutes.", AGAIN),
)
REFUSALS: Final[Mapping[Refusal, Result]] = MappingProxyType(
    {
        "unknown": NOT_VALID,
        "other_browser": Result(
            "other_browser",
            403,
            "This is not the browser that began",
            ("An account is connected in one browser from beginning to end, with cookies allowed.", AGAIN),
        ),
        "used": Result(
            "used",
            410,
            "This page has done its work",
            (
                "What Stripe said was taken in the first time. Nothing happens when the page is loaded again.",
                "To be sure that the account is connected, connect it again: that does no harm.",
            ),
        ),
        "over": Result("over", 410, "That took more than ten minutes", ("Nothing was connected.", AGAIN)),
        "not_allowed": Result(
            "not_allowed",
            403,
            "Not connected",
            ("Whoever asked for this link may no longer connect accounts. Nothing has changed here.",),
        ),
    }
)
RESULTS: Final[Mapping[str, Result]] = MappingProxyType(
    {
        each.outcome: each
        for each in (
            Result("connected", 200, "Your Stripe account is connected", ("Its quotes can be paid now.", CLOSE)),
            Result(
                "connected_not_activated",
                200,
                "Connected, but it cannot take payments yet",
                (
                    "Stripe has not activated this account: finish that in Stripe's dashboard. Until then no quote can be paid.",
                    CLOSE,
                ),
            ),
            Result(
                "other_account",
                403,
                "That is another account",
                (
                    "You allowed another Stripe account than the one that was to be connected. It was not connected.",
                    AGAIN,
                ),
            ),
            Result(
                "other_mode",
                409,
                "That is the other mode",
                ("Stripe connected the account in another mode (test or live) than was asked for.", AGAIN),
            ),
            Result(
                "code_refused",
                400,
                "Stripe no longer takes this answer",
                ("It is good for some minutes, and once. Nothing was connected.", AGAIN),
            ),
            Result(
                "stripe_says_no",
                400,
                "Stripe did not connect the account",
                ("Nothing was connected.", AGAIN),
            ),
            Result(
                "stripe_away",
                503,
                "Stripe did not answer",
                ("It is not known whether the account is connected. To be sure, do it again.", AGAIN),
            ),
            Result(
                "not_set_up",
                502,
                "Stripe does not accept us",
                (
                    "Something is wrong in how connecting was set up. We have been told, and it is not you who can mend it.",
                ),
            ),
            Result(
                "too_often", 429, "One moment, please", ("That was often within a short time. Try again in a minute.",)
            ),
            Result(
                "open_it_yourself",
                403,
                "Open this link yourself",
                (
                    "It was asked for ahead of time, or from within another page. It is still good: open it in a window.",
                ),
            ),
        )
    }
)


def trouble(request: web.Request, status: int, headers: Mapping[str, str]) -> web.Response:
    """The page for an answer under /connect/ that is none: nothing there, another method, the database away, our fault."""
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        result = replace(NOT_VALID, status=status)
    else:
        result = Result(
            "our_fault",
            status,
            "We cannot answer just now",
            ("Load this page again in a moment. If that does not help:", AGAIN),
        )
    answer = page(request, result)
    answer.headers.update(headers)
    return answer


def page(request: web.Request, result: Result, *, retry_after: float | None = None) -> web.Response:
    """The page of a result."""
    headers = {} if retry_after is None else {str(hdrs.RETRY_AFTER): str(max(1, ceil(retry_after)))}
    return request.app[RENDERER].answer(
        "connect_result.html", languages()["en"], status=result.status, headers=headers | PRIVATE, result=result
    )
