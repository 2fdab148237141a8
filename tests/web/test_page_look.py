"""What can be told of the pages' looks without eyes: contrast, structure, and that nothing comes from elsewhere."""

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.web.conftest import line
from tests.web.html import Element, tree
from tests.web.showing import page, renderer, return_page, shown, trouble
from web.page.assets import STATIC, assets
from web.page.rendering import TEMPLATES
from web.page.words import languages

CSS = (STATIC / "page.css").read_text("utf-8")

# Text on what it stands on; the accent is also the colour of links and of what has the focus.
PAIRS = [
    ("ink", "sheet"),
    ("ink", "desk"),
    ("ink", "soft"),
    ("quiet", "sheet"),
    ("quiet", "soft"),
    ("accent", "sheet"),
    ("accent", "soft"),
    ("accent-strong", "sheet"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-good", "good"),
    ("on-waiting", "waiting"),
    ("on-closed", "closed"),
    ("on-trouble", "trouble"),
]


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css))


LIGHT = colours(CSS[: CSS.index("@media")])
DARK = LIGHT | colours(CSS[CSS.index("prefers-color-scheme: dark") : CSS.index("*,\n*::before")])
PAPER = LIGHT | colours(CSS[CSS.index("@media print") :])


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PAPER], ids=["light", "dark", "paper"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read(scheme: dict[str, str], text: str, ground: str) -> None:
    assert contrast(scheme[text], scheme[ground]) >= 4.5


def every_page() -> Iterator[tuple[str, Element]]:
    for language in languages():
        given = shown(
            line(billing_frequency="monthly", discount={"percent": "10"}),
            line(),
            locale=language,
            expires_on="2026-12-31",
            taxes=[{"percent": "5"}],
            company={"name": "Buyer"},
            livemode=False,
        )
        yield f"open-{language}", page(given)
        yield f"return-{language}", return_page(given)
        expired = type(given)(**{**vars(given), "offer": "expired"})
        yield f"expired-{language}", page(expired)
        for status in (400, 403, 404, 429, 500, 502, 503):
            yield f"{status}-{language}", trouble(status, language=language)[1]
        yield f"503-click-{language}", trouble(503, language=language, token="t", again="checkout")[1]
        onward = renderer.html("onward.html", languages()[language], url="https://pay.example.com/")
        yield f"onward-{language}", tree(onward)


PAGES = dict(every_page())


@pytest.mark.parametrize("seen", PAGES.values(), ids=PAGES.keys())
class TestEveryPage:
    """Landmarks, headings, names; what a policy without inline script and style takes."""

    def test_has_one_main_one_h1_and_headings_in_order(self, seen: Element) -> None:
        assert len(seen.all("main")) == 1
        levels = [int(one.tag[1]) for one in seen.walk() if re.fullmatch(r"h[1-6]", one.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))

    def test_says_its_language_direction_and_name(self, seen: Element) -> None:
        html = seen.one("html")
        assert html["lang"] in languages()
        assert html["dir"] == "ltr"
        assert seen.one("title").text
        assert seen.one("meta", name="viewport")["content"] == "width=device-width, initial-scale=1"
        assert seen.one("meta", name="robots")["content"] == "noindex, nofollow"

    def test_ids_are_unique_and_what_is_referred_to_is_there(self, seen: Element) -> None:
        ids = [one["id"] for one in seen.walk() if one.get("id")]
        assert len(ids) == len(set(ids))
        for one in seen.walk():
            for name in ("aria-labelledby", "aria-describedby"):
                assert set((one.get(name) or "").split()) <= set(ids)
            if one.tag == "use":
                assert one["href"].removeprefix("#") in ids

    def test_has_no_inline_style_or_script_and_nothing_from_elsewhere(self, seen: Element) -> None:
        for one in seen.walk():
            assert not [name for name in one.attributes if name.startswith("on") or name == "style"], one.tag
            assert one.tag not in {"style", "iframe", "object", "embed", "base"}
            if one.tag in {"script", "link"}:
                address = one.get("src") or one["href"]
                assert address.removeprefix("/static/") in {asset.address for asset in assets().values()}
                assert not "".join(str(child) for child in one.children).strip()

    def test_pictures_are_hidden_from_those_who_listen(self, seen: Element) -> None:
        assert all(one.get("aria-hidden") == "true" for one in seen.all("svg"))


def test_the_table_stays_one_where_phones_stack_it() -> None:
    """`display: block` takes a table's meaning away in some browsers; roles give it back."""
    seen = PAGES["open-en"]
    assert seen.one("table")["role"] == "table"
    roles = {"thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "td": "cell"}
    for tag, role in roles.items():
        assert {one.get("role") for one in seen.one("table").all(tag)} == {role}
    assert {(one["scope"], one["role"]) for one in seen.one("table").all("th")} == {
        ("col", "columnheader"),
        ("row", "rowheader"),
    }
    assert all(one["aria-hidden"] == "true" for one in seen.all("span", class_="label")), "headers are read anyway"


def test_the_style_knows_dark_phones_paper_and_who_gets_dizzy_and_fetches_nothing() -> None:
    for media in ("prefers-color-scheme: dark", "max-width", "print", "prefers-reduced-motion: reduce"):
        assert media in CSS
    assert "url(" not in CSS
    assert "@import" not in CSS
    assert ":focus-visible" in CSS
    physical = re.findall(
        r"^\s*(?:margin|padding|border)-(?:left|right)|^\s*(?:left|right):|text-align: (?:left|right)",
        CSS,
        re.MULTILINE,
    )
    assert not physical, "a page that reads from right to left would be broken"


def test_every_class_of_the_pages_is_styled() -> None:
    """A misspelt class would only be seen."""
    named = {name for seen in PAGES.values() for one in seen.walk() for name in (one.get("class") or "").split()}
    assert {name for name in named if f".{name}" not in CSS} <= {"item", "sum", "notice-ask"}


def test_no_template_switches_escaping_off() -> None:
    for path in TEMPLATES.glob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape", path.read_text("utf-8")), path.name
