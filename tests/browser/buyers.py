"""Buyers: a browser profile each, an address of their own, and everything noted that went wrong in their pages."""

from collections.abc import Iterable
from itertools import count
from typing import Any, Protocol

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

# A violation is on the console as well, where it was not asked for by `report-uri`; this one says which directive it was.
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI || "inline"}`))
"""
# Longer than anything takes on a machine that is busy with others; nothing waits for as long where all is well.
PATIENCE = 30_000.0  # milliseconds

PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}

_addresses = count(1)


class Visit(Protocol):
    """`await visit(url)`. `expected`: parts of complaints that are what the test is about."""

    async def __call__(self, url: str | None = None, *, expected: Iterable[str] = (), **context: Any) -> Page: ...


class Visits:
    """The buyers of one test."""

    def __init__(self, browser: Browser, stripe: str) -> None:
        """`stripe`: where the pages are that are not ours."""
        self._browser = browser
        self._stripe = f"{stripe}/"
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    async def visit(self, url: str | None = None, *, expected: Iterable[str] = (), **context: Any) -> Page:
        """A new buyer's first page, opened at `url` where there is one."""
        number = next(_addresses)
        # Each has an address, as buyers do: limits count by it. web is told to trust one proxy.
        headers = {"X-Forwarded-For": f"10.1.{number // 250}.{number % 250 + 1}"}
        made = await self._browser.new_context(extra_http_headers=headers, **(DESK | context))
        self._contexts.append(made)
        made.set_default_timeout(PATIENCE)
        await made.add_init_script(TELL_VIOLATIONS)
        self._listen(made, tuple(expected))
        page = await made.new_page()
        if url is not None:
            await page.goto(url)
        return page

    async def end(self) -> None:
        """Everybody leaves. Raises AssertionError with what was complained of."""
        for context in self._contexts:
            await context.close()
        assert not self.complaints, "\n".join(self.complaints)

    def _listen(self, context: BrowserContext, expected: tuple[str, ...]) -> None:
        def complain(url: str, text: str) -> None:
            if not url.startswith(self._stripe) and not any(part in text for part in expected):
                self.complaints.append(f"{url}: {text}")

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complain(message.location["url"], f"{message.type} on the console: {message.text}")

        def answered(response: Response) -> None:
            if response.status >= 400:
                complain(response.url, f"{response.status} for {response.request.method}")

        def failed(request: Request) -> None:
            # A page that is left while it asks is no fault.
            if request.failure != "net::ERR_ABORTED":
                complain(request.url, f"{request.failure} for {request.method}")

        context.on("console", said)
        context.on("weberror", lambda error: complain(error.page.url if error.page else "", f"uncaught: {error.error}"))
        context.on("response", answered)
        context.on("requestfailed", failed)
