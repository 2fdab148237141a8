"""Stripe Connect's OAuth: the page on which a user lets the platform in, the exchange of its code, deauthorize.

GET  /oauth/authorize      the page: "Connect" and "Deny", which send the user (303) to redirect_uri with code or error
POST /oauth/token          a code, which holds five minutes and is good for once, for the account's id
POST /oauth/deauthorize    the platform gives an account back

Refusals are worded as OAuth's: {"error": …, "error_description": …}.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import web

from tests.fakes.stripe.hosted import PAGE
from tests.fakes.stripe.shapes import JsonObject, Place
from tests.fakes.stripe.world import World

CODE_LIFE: Final = 300
FORM: Final = """<p>{name} would like to {may} your account's data.</p>
<form method="post" action="/oauth/authorize">{hidden}
<label for="account">Account</label><input id="account" name="account" required value="{account}">
<button name="action" value="connect">Connect</button>
<button name="action" value="deny" formnovalidate>Deny</button></form>"""


class OAuthRefused(Exception):
    """An error of OAuth's own form."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body: JsonObject = {"error": error, "error_description": description}


@dataclass
class Code:
    """What a user's consent gave: good for once."""

    account: str
    livemode: bool
    scope: str
    made_at: float
    used: bool = False


class OAuth:
    """Consent, its codes, and the platform's client ids (one for each mode)."""

    def __init__(self, world: World) -> None:
        """No consent yet; any redirect URI is as good as registered until one is."""
        self.world = world
        self.client_ids = {False: "ca_TestQuittance", True: "ca_LiveQuittance"}
        self.redirect_uris: set[str] = set()
        self.codes: dict[str, Code] = {}
        self.next_account = "acct_1SellerOne00000000"

    def routes(self) -> list[web.RouteDef]:
        """The user's part, in a browser."""
        return [web.get("/oauth/authorize", self.show), web.post("/oauth/authorize", self.decide)]

    async def show(self, request: web.Request) -> web.Response:
        """What is asked for, and the two answers."""
        asked = dict(request.query)
        if wrong := self._wrong(asked):
            return _page("Something went wrong", f"<p>{escape(wrong)}</p>", 400)
        hidden = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in asked.items()
        )
        may = "read and write" if asked.get("scope") == "read_write" else "read"
        content = FORM.format(name="Quittance", may=may, hidden=hidden, account=self.next_account)
        return _page("Connect", content, 200)

    async def decide(self, request: web.Request) -> web.Response:
        """Back to the platform, with a code or without."""
        asked = {name: str(value) for name, value in (await request.post()).items()}
        if wrong := self._wrong(asked):
            return _page("Something went wrong", f"<p>{escape(wrong)}</p>", 400)
        if asked.get("action") == "connect":
            given = self.consent(
                asked["account"], livemode=self._livemode(asked), scope=asked.get("scope", "read_only")
            )
            answer = {"scope": asked.get("scope", "read_only"), "code": given}
        else:
            answer = {"error": "access_denied", "error_description": "The user denied your request"}
        if "state" in asked:
            answer["state"] = asked["state"]
        raise web.HTTPSeeOther(_with_query(asked["redirect_uri"], answer))

    def consent(self, account: str, *, livemode: bool = False, scope: str = "read_write") -> str:
        """A code, as if the user of `account` had pressed Connect."""
        code = f"ac_{secrets.token_hex(16)}"
        self.codes[code] = Code(account, livemode, scope, self.world.now())
        return code

    def token(self, params: Mapping[str, str], livemode: bool) -> JsonObject:
        """POST /oauth/token."""
        if params.get("grant_type") != "authorization_code":
            raise OAuthRefused(400, "unsupported_grant_type", "Only authorization_code is supported here")
        name = params.get("code", "")
        code = self.codes.get(name)
        if code is None:
            raise OAuthRefused(400, "invalid_grant", f"Authorization code does not exist: {name}")
        if code.livemode is not livemode:
            message = f"Authorization code was issued in {'live' if code.livemode else 'test'} mode: {name}"
            raise OAuthRefused(400, "invalid_grant", message)
        if code.used:
            self.revoke(code.account, code.livemode)
            message = (
                "This authorization code has already been used. All tokens issued with this code have been revoked."
            )
            raise OAuthRefused(400, "invalid_grant", message)
        if self.world.now() - code.made_at > CODE_LIFE:
            raise OAuthRefused(400, "invalid_grant", f"Authorization code expired: {name}")
        code.used = True
        self.world.accounts.connect(code.account, livemode)
        mode = "live" if livemode else "test"
        return {
            "access_token": f"sk_{mode}_{secrets.token_hex(12)}",
            "livemode": livemode,
            "refresh_token": f"rt_{secrets.token_hex(12)}",
            "token_type": "bearer",
            "stripe_publishable_key": f"pk_{mode}_{secrets.token_hex(12)}",
            "stripe_user_id": code.account,
            "scope": code.scope,
        }

    def deauthorize(self, params: Mapping[str, str], livemode: bool) -> JsonObject:
        """POST /oauth/deauthorize."""
        if params.get("client_id") != self.client_ids[livemode]:
            message = f"No such application: '{params.get('client_id', '')}'"
            raise OAuthRefused(401, "invalid_client", message)
        account = params.get("stripe_user_id", "")
        if (account, livemode) not in self.world.accounts.connected:
            message = f"This application is not connected to stripe account {account}, or that account does not exist."
            raise OAuthRefused(401, "invalid_client", message)
        self.revoke(account, livemode)
        return {"stripe_user_id": account}

    def revoke(self, account: str, livemode: bool = False) -> None:
        """The platform may no longer act for the account, whoever wanted that: `account.application.deauthorized`."""
        self.world.accounts.disconnect(account, livemode)
        application = {"id": self.client_ids[livemode], "object": "application", "name": "Quittance"}
        self.world.emit(Place(account, livemode), "account.application.deauthorized", application)

    def _livemode(self, asked: Mapping[str, str]) -> bool:
        return asked.get("client_id") == self.client_ids[True]

    def _wrong(self, asked: Mapping[str, str]) -> str:
        """Why the user is not sent anywhere; "" where all is well."""
        if asked.get("client_id") not in self.client_ids.values():
            return f"No application matches the supplied client identifier: {asked.get('client_id', '')}"
        if asked.get("response_type") != "code":
            return "Only response_type=code is supported"
        where = asked.get("redirect_uri", "")
        if not where or (self.redirect_uris and where not in self.redirect_uris):
            return f"Invalid redirect URI '{where}'. Ensure this uri exactly matches one of the uris of your platform."
        if self._livemode(asked) and not where.startswith("https://"):
            return "Live-mode redirect URIs must use HTTPS."
        return ""


def key_of(request: web.Request, params: Mapping[str, str]) -> str:
    """The secret key of a call: a bearer token, HTTP Basic's user, or the parameter `client_secret`."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        value = base64.b64decode(value).decode().partition(":")[0]
    return value or params.get("client_secret", "")


def _with_query(url: str, more: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *more.items()])))


def _page(title: str, content: str, status: int) -> web.Response:
    return web.Response(text=PAGE.format(title=title, content=content), content_type="text/html", status=status)
