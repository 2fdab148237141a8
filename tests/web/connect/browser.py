"""A person who connects a Stripe account: a browser that keeps cookies, our pages, and the page at Stripe between them."""

import re
from dataclasses import dataclass, field
from html import unescape
from http.cookies import Morsel, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from tests.fakes.stripe import StripeApi
from tests.web.conftest import PUBLIC_URL, Api


@dataclass(frozen=True)
class Page:
    """An answer as a browser gets it."""

    status: int
    text: str
    headers: CIMultiDictProxy[str]

    @property
    def outcome(self) -> str:
        """What the page says of itself."""
        found = re.search(r'data-outcome="([a-z_]+)"', self.text)
        return found[1] if found else ""

    @property
    def words(self) -> str:
        """What stands on it."""
        return unescape(re.sub(r"<[^>]+>|\s+", " ", self.text.partition("<main")[2]))

    @property
    def location(self) -> str:
        """Where it leads."""
        return self.headers["Location"]


@dataclass
class Browser:
    """One person's browser. It follows no redirect by itself: each step is a step of the test."""

    session: aiohttp.ClientSession
    base: str
    stripe: StripeApi
    cookies: dict[str, Morsel[str]] = field(default_factory=dict)

    async def get(self, url: str, **headers: str) -> Page:
        """Open an address of ours, wherever it says that it is."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        where = URL(url.replace(PUBLIC_URL, self.base), encoded=True)
        async with self.session.get(where, headers=given, allow_redirects=False) as answer:
            for line in answer.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel
                    if morsel["max-age"] == "0":
                        del self.cookies[name]
            return Page(answer.status, await answer.text(), answer.headers)

    async def at_stripe(self, authorize_url: str, account: str, *, press: str = "connect") -> str:
        """Press a button on Stripe's page; where that sends the browser."""
        asked = dict(parse_qsl(urlsplit(authorize_url).query))
        form = {**asked, "account": account, "action": press}
        where = f"{self.stripe.url}/oauth/authorize"
        async with self.session.post(where, data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            return answer.headers["Location"]

    async def to_stripe(self, api: Api) -> str:
        """From the API's answer to Stripe's door: the address of Stripe's page."""
        return (await self.get(await begun(api))).location

    async def connect(self, api: Api, account: str) -> Page:
        """The whole way; the last page."""
        return await self.get(await self.at_stripe(await self.to_stripe(api), account))


async def begun(api: Api) -> str:
    """The address that the API gives."""
    answer = await api.ask("POST", "/v1/connect")
    assert answer.status == 201, answer.json
    return str(answer.json["url"])


def state_in(authorize_url: str) -> str:
    """The state that Stripe is given."""
    return dict(parse_qsl(urlsplit(authorize_url).query))["state"]
