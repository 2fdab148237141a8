"""Sample quotes, one in each language of the page: something once and something each month, and a discount on both."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import aiohttp

VALID: Final = timedelta(days=30)

OWNER: Final = {"name": "Sal Seller", "email": "seller@example.com"}


class Words(NamedTuple):
    """What differs from one sample to the next."""

    language: str
    locale: str
    currency: str
    time_zone: str
    title: str
    workshop: tuple[str, str]
    support: tuple[str, str]
    discount: str
    buyer: tuple[str, str, str, str]  # company, first name, last name, country


SAMPLES: Final = MappingProxyType(
    {
        "en": Words(
            "English",
            "en-GB",
            "GBP",
            "Europe/London",
            "A workshop, and the support that follows it",
            ("Workshop, one day", "At your office, for up to twelve people"),
            ("Support", "By telephone and e-mail, on working days"),
            "Autumn offer",
            ("Bright & Sons Ltd", "Bea", "Bright", "GB"),
        ),
        "sv": Words(
            "Swedish",
            "sv-SE",
            "SEK",
            "Europe/Stockholm",
            "En workshop, och supporten som följer",
            ("Workshop, en dag", "Hos er, för upp till tolv personer"),
            ("Support", "Via telefon och e-post, på vardagar"),
            "Höstrabatt",
            ("Björk & Söner AB", "Bo", "Björk", "SE"),
        ),
        "de": Words(
            "German",
            "de-DE",
            "EUR",
            "Europe/Berlin",
            "Ein Workshop und die Betreuung danach",
            ("Workshop, ein Tag", "Bei Ihnen vor Ort, für bis zu zwölf Personen"),
            ("Betreuung", "Per Telefon und E-Mail, an Werktagen"),
            "Herbstrabatt",
            ("Birke & Söhne GmbH", "Britta", "Birke", "DE"),
        ),
        "fr": Words(
            "French",
            "fr-FR",
            "EUR",
            "Europe/Paris",
            "Un atelier et son suivi",
            ("Atelier, une journée", "Chez vous, pour douze personnes au plus"),
            ("Suivi", "Par téléphone et par e-mail, les jours ouvrés"),
            "Remise de rentrée",
            ("Bouleau et Fils SARL", "Béatrice", "Bouleau", "FR"),
        ),
    }
)


def sample(language: str, number: str, **given: Any) -> dict[str, Any]:
    """What a CRM would publish. `given` replaces or adds fields."""
    words = SAMPLES[language]
    company, first_name, last_name, country = words.buyer
    crowns = 10 if words.currency == "SEK" else 1
    (workshop, at), (support, how) = words.workshop, words.support
    return {
        "number": number,
        "title": words.title,
        "currency": words.currency,
        "locale": words.locale,
        "time_zone": words.time_zone,
        "expires_on": (datetime.now(UTC) + VALID).date().isoformat(),
        "owner": OWNER,
        "company": {"name": company},
        "contact": {"first_name": first_name, "last_name": last_name, "country": country},
        "line_items": [
            {"name": workshop, "description": at, "unit_amount": 120_000 * crowns},
            {"name": support, "description": how, "unit_amount": 4_900 * crowns, "billing_frequency": "monthly"},
        ],
        "discounts": [{"name": words.discount, "percent": "10"}],
        **given,
    }


@dataclass(frozen=True)
class Published:
    """A quote and its page."""

    quote_id: str
    language: str
    title: str
    url: str


async def publish_each(api: str, token: str, run: str) -> list[Published]:
    """Publish each sample as a quote of this run; raises ValueError with the API's words where one is refused."""
    made = []
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, trust_env=False) as session:
        for language, words in SAMPLES.items():
            quote_id = f"Q-{run}-{language}"
            async with session.put(f"{api}/v1/quotes/{quote_id}", json=sample(language, f"{run}-{language}")) as answer:
                said: Mapping[str, Any] = await answer.json(content_type=None)
                if answer.status not in (200, 201):
                    raise ValueError(f"{quote_id} is not published, but answered {answer.status}: {said}")
            made.append(Published(quote_id, words.language, words.title, said["url"]))
    return made
