"""The languages of the page: one catalogue each in web/locales/; English is what the templates and the code say."""

from dataclasses import dataclass
from functools import cache
from gettext import NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Final

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from quittance.wording import DEFAULT_LANGUAGE, locale_of

LOCALES: Final = Path(__file__).resolve().parents[1] / "locales"
LONGEST_HEADER: Final = 200


@dataclass(frozen=True)
class Words:
    """A language that the page speaks; `direction` is `ltr` or `rtl`."""

    language: str
    direction: str
    translations: NullTranslations

    def gettext(self, message: str) -> str:
        """`message` in this language; as it is where the catalogue does not have it."""
        return self.translations.gettext(message)


@cache
def languages() -> dict[str, Words]:
    """Every language that there is a catalogue for, and English. Raises PoFileError for a catalogue that cannot be read."""
    found: dict[str, NullTranslations] = {DEFAULT_LANGUAGE: NullTranslations()}
    for path in sorted(LOCALES.glob("*.po")):
        found[path.stem] = _read(path)
    return {name: Words(name, Locale(name).text_direction, said) for name, said in found.items()}


def words_for(locale: str) -> Words:
    """The language of `locale`; English where we have no catalogue for it."""
    return languages().get(locale_of(locale).language) or languages()[DEFAULT_LANGUAGE]


def accepted_locale(header: str) -> str:
    """The first language of an Accept-Language header that we speak: for pages that belong to no quote."""
    wishes: list[tuple[float, str]] = []
    for part in header[:LONGEST_HEADER].split(","):
        tag, _, parameter = part.strip().partition(";")
        if tag:
            wishes.append((_weight(parameter), tag))
    for weight, tag in sorted(wishes, key=lambda wish: -wish[0]):
        language = tag.partition("-")[0].lower()
        if weight > 0 and language in languages():
            return language
    return DEFAULT_LANGUAGE


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def _read(path: Path) -> NullTranslations:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.stem, abort_invalid=True)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
