"""A buyer without a browser: opens pages, submits their forms, follows where that leads. Plain HTTP, no script."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin

import aiohttp

TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
# Whose words on a page count as its headline.
HEADINGS: Final = ("h1", "h2")
# A form submitted by a browser says where it comes from.
FROM_OURSELVES: Final = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@dataclass
class Form:
    """A form: its fields as they stand, and its buttons by what is written on them."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A page as it was answered. `offer`: the `data-offer` of a quote's page; `came_by`: every status on the way to it."""

    url: str
    status: int
    came_by: tuple[int, ...]
    offer: str | None
    headlines: tuple[str, ...]
    forms: tuple[Form, ...]
    html: str

    def button(self, name: str) -> tuple[Form, str, str]:
        """The first form with a button that says so, and what the button adds. Raises LookupError where there is none."""
        for form in self.forms:
            if name in form.buttons:
                return form, *form.buttons[name]
        raise LookupError(f"{self.url} ({self.status}) has no button {name!r}, but {[*self.headlines]}")


class Buyer:
    """Somebody with a session of HTTP."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        """`http`: whose headers say who it is."""
        self._http = http

    async def open(self, url: str) -> Seen:
        """GET, wherever it leads."""
        async with self._http.get(url, timeout=TIMEOUT) as answer:
            return _seen(str(answer.url), answer, await answer.text())

    async def press(self, page: Seen, button: str, /, **filled: str) -> Seen:
        """Fill in the form of that button and press it. Raises LookupError where there is no such button."""
        form, field_name, value = page.button(button)
        data = {**form.fields, **filled, **({field_name: value} if field_name else {})}
        url = urljoin(page.url, form.action)
        async with self._http.request(form.method, url, data=data, headers=FROM_OURSELVES, timeout=TIMEOUT) as answer:
            return _seen(str(answer.url), answer, await answer.text())


def _seen(url: str, answer: aiohttp.ClientResponse, html: str) -> Seen:
    reader = _Reader()
    reader.feed(html)
    came_by = (*(step.status for step in answer.history), answer.status)
    headlines = tuple(" ".join(text.split()) for text in reader.headlines)
    return Seen(url, answer.status, came_by, reader.offer, headlines, tuple(reader.forms), html)


class _Reader(HTMLParser):
    """Reads a page for its forms and headlines."""

    def __init__(self) -> None:
        super().__init__()
        self.offer: str | None = None
        self.forms: list[Form] = []
        self.headlines: list[str] = []
        self._inside: str | None = None
        self._button: tuple[str, str] | None = None
        self._said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.offer = given.get("data-offer", self.offer)
        if tag == "form":
            self.forms.append(Form(given.get("method", "get").upper(), given.get("action", "")))
        elif tag == "input" and self.forms and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and self.forms:
            self._button, self._said = (given.get("name", ""), given.get("value", "")), ""
        elif tag in HEADINGS:
            self._inside, self._said = tag, ""

    def handle_data(self, data: str) -> None:
        self._said += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "button" and self._button is not None:
            self.forms[-1].buttons[self._said.strip()] = self._button
            self._button = None
        elif tag == self._inside:
            self.headlines.append(self._said)
            self._inside = None
