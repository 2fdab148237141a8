"""The quote's page: what a buyer sees before, while and after he pays."""

from web.page.handlers import QuotePage
from web.page.onward import onward
from web.page.trouble import render_trouble

__all__ = ["QuotePage", "onward", "render_trouble"]
