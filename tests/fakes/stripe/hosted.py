"""The page on which a buyer pays: a plain HTML form, for browsers and for tests that post it themselves.

GET /pay/{session} shows it; POST /pay/{session} with `action` pay, debit or decline submits it. After a payment the
buyer is sent on (303) at once: what the webhooks do then is their own business, as it may be at Stripe's.
"""

from html import escape
from typing import Final

from aiohttp import web

from tests.fakes.stripe import buyer
from tests.fakes.stripe.money import shown
from tests.fakes.stripe.payments import Payment
from tests.fakes.stripe.sessions import expire_due
from tests.fakes.stripe.world import World

PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 26rem; padding: 0 1rem }}
label, input, button {{ display: block; width: 100%; box-sizing: border-box; font: inherit }}
input {{ padding: .5rem; margin-bottom: 1rem }}
button {{ padding: .7rem; margin-top: .7rem; cursor: pointer }}
li span {{ float: right }} ul {{ list-style: none; padding: 0 }}
[role=alert] {{ border-left: 4px solid #c00; padding-left: 1rem }}
</style></head><body><main><h1>{title}</h1>{content}</main></body></html>"""

FORM: Final = """<p><a href="{back}">Back</a></p>
<ul>{lines}</ul><p>Due today: <strong>{total}</strong></p>{alert}
<form method="post" action="/pay/{session}">
<label for="email">E-mail</label>
<input id="email" name="email" type="email" autocomplete="email" required value="{email}"{fixed}>
<label for="name">Name</label>
<input id="name" name="name" autocomplete="name" required value="{name}">
<button name="action" value="pay">Pay</button>
<button name="action" value="debit">Pay by bank debit</button>
<button name="action" value="decline">Card declined</button>
</form><p><small>A stand-in for Stripe's page: no money moves.</small></p>"""

ENDS: Final = {
    "complete": ("You're all done here", "This Checkout Session has been completed. You can close this page."),
    "expired": ("Something went wrong", "This Checkout Session has expired. Please go back and try again."),
}
ACTIONS: Final[dict[str, buyer.How]] = {"pay": "card", "debit": "debit", "decline": "declined"}


class HostedPage:
    """The page of every session."""

    def __init__(self, world: World) -> None:
        """`world`: where the sessions are."""
        self.world = world

    def routes(self) -> list[web.RouteDef]:
        """GET and POST /pay/{session}."""
        return [web.get("/pay/{session}", self.show), web.post("/pay/{session}", self.submit)]

    async def show(self, request: web.Request) -> web.Response:
        """The form, or why there is none."""
        payment = self._found(request)
        if payment.session["status"] != "open":
            return _end(payment.session["status"], 200)
        return _form(payment)

    async def submit(self, request: web.Request) -> web.Response:
        """Pay, and on to where the seller wants the buyer."""
        payment = self._found(request)
        form = await request.post()
        how = ACTIONS.get(str(form.get("action", "")))
        email, name = str(form.get("email", "")).strip(), str(form.get("name", "")).strip()
        fixed = (payment.session["customer_details"] or {}).get("email")
        if how is None or not name or "@" not in (fixed or email):
            return _form(payment, "Please fill in your e-mail and your name.", email, name, status=400)
        try:
            onward = buyer.pay(self.world, payment, how, email, name)
        except buyer.NotOpen as ended:
            return _end(str(ended), 409)
        if onward is None:
            return _form(payment, "Your card was declined. Please try another one.", email, name, status=402)
        raise web.HTTPSeeOther(onward)

    def _found(self, request: web.Request) -> Payment:
        expire_due(self.world)
        payment = self.world.payments.get(request.match_info["session"])
        if payment is None:
            content = "<p>The page you were looking for could not be found.</p>"
            text = PAGE.format(title="Something went wrong", content=content)
            raise web.HTTPNotFound(text=text, content_type="text/html")
        return payment


def _form(payment: Payment, alert: str = "", email: str = "", name: str = "", *, status: int = 200) -> web.Response:
    session, price = payment.session, payment.price
    known = (session["customer_details"] or {}).get("email")
    lines = "".join(
        f"<li>{escape(f'{line.quantity} x {line.name}')} <span>{shown(line.amount, line.currency)}"
        f"{'' if line.interval is None else _every(*line.interval)}</span></li>"
        for line in price.lines
    )
    if price.discount:
        lines += f"<li>Discount <span>-{shown(price.discount, price.currency)}</span></li>"
    content = FORM.format(
        back=escape(session["cancel_url"] or payment.success_url),
        lines=lines,
        total=shown(price.total, price.currency),
        alert=f'<p role="alert">{escape(alert)}</p>' if alert else "",
        session=session["id"],
        email=escape(known or email),
        fixed=" readonly" if known else "",
        name=escape(name),
    )
    text = PAGE.format(title="Checkout", content=content)
    return web.Response(text=text, content_type="text/html", status=status)


def _every(interval: str, count: int) -> str:
    return f" every {interval}" if count == 1 else f" every {count} {interval}s"


def _end(status: str, http_status: int) -> web.Response:
    title, said = ENDS[status]
    text = PAGE.format(title=escape(title), content=f"<p>{escape(said)}</p>")
    return web.Response(text=text, content_type="text/html", status=http_status)
