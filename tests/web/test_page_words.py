"""The catalogues: every sentence in every language, with the same places in it; and which language is chosen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from web.page.rendering import TEMPLATES
from web.page.words import LOCALES, accepted_locale, languages, words_for

CODE = Path(LOCALES).parent / "page"
CATALOGUES = sorted(LOCALES.glob("*.po"))


def said() -> Iterator[str]:
    """Every sentence of the templates and the code, as Babel finds them."""
    for path in sorted(TEMPLATES.glob("*.html")):
        options = {"trimmed": "true", "silent": "false"}
        yield from (str(found[1]) for found in extract_from_file("jinja2.ext:babel_extract", path, options=options))
    for path in sorted(CODE.glob("*.py")):
        yield from (str(found[1]) for found in extract_from_file("python", path))


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.stem, abort_invalid=True)


def places(sentence: str) -> list[str]:
    return sorted(re.findall(r"%\((\w+)\)s", sentence))


def test_there_are_four_languages() -> None:
    assert sorted(languages()) == ["de", "en", "fr", "sv"]


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_sentence_and_no_other(path: Path) -> None:
    known = {str(message.id): str(message.string) for message in catalogue(path) if message.id}
    assert set(known) == set(said())
    for english, translated in known.items():
        assert translated.strip(), f"not translated: {english}"
        assert places(translated) == places(english), english
        assert not re.findall(r"%(?!\()", translated.replace("%%", "")), f"a stray %: {translated}"
    assert not [message.id for message in catalogue(path) if message.fuzzy]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("sv", "sv"),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr"),
        ("es, pt;q=0.9, de-AT;q=0.4, sv;q=0.3", "de"),
        ("de;q=0, sv;q=0.1", "sv"),
        ("es", "en"),
        ("de;q=x", "en"),
        (";;;,,,=", "en"),
        ("sv;q=nan", "en"),
        ("x" * 10_000, "en"),
    ],
)
def test_a_page_that_belongs_to_no_quote_speaks_the_browsers_language(header: str, language: str) -> None:
    assert accepted_locale(header) == language


def test_a_language_without_a_catalogue_is_english() -> None:
    assert words_for("sv-FI").language == "sv"
    assert words_for("pt_BR").language == "en"
    assert words_for("no such thing").language == "en"
