"""HTML from the templates, in the reader's language, with the headers that every page carries."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web.page.assets import assets
from web.page.words import Words, languages
from web.security import page_headers

TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"


class Renderer:
    """Makes the pages' answers. Every template is read when it is made: one that is broken is noticed at start."""

    def __init__(self, public_url: str, checkout_origins: Sequence[str]) -> None:
        # Where a proxy serves us below a folder, PUBLIC_URL names it.
        self.prefix = urlsplit(public_url).path.rstrip("/")
        self.checkout_origins = frozenset(checkout_origins)
        self._headers = page_headers(checkout_origins)
        for environment in environments().values():
            for name in environment.list_templates():
                environment.get_template(name)

    def answer(
        self,
        template: str,
        words: Words,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> web.Response:
        """The template, filled in."""
        return web.Response(
            text=self.html(template, words, **values),
            status=status,
            content_type="text/html",
            charset="utf-8",
            headers={**self._headers, "Content-Language": words.language, **(headers or {})},
        )

    def html(self, template: str, words: Words, **values: Any) -> str:
        """The text of a page."""
        page = environments()[words.language].get_template(template)
        return page.render(words=words, prefix=self.prefix, **values)


RENDERER: Final = web.AppKey("renderer", Renderer)


@cache
def environments() -> dict[str, Environment]:
    """Jinja's environment of each language."""
    return {name: _environment(words) for name, words in languages().items()}


def _environment(words: Words) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.policies["ext.i18n.trimmed"] = True
    # newstyle: what is put into a sentence is escaped, the sentence itself is the catalogue's.
    environment.install_gettext_translations(words.translations, newstyle=True)  # type: ignore[attr-defined]
    environment.globals["asset"] = {name: asset.address for name, asset in assets().items()}
    return environment
