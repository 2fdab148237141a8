"""The quotes API in `make run` and `make demo`: a token for it, and a quote published through it and taken back."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from dev.crm import Crm
from dev.places import free_ports, is_free
from dev.samples import sample
from quittance.event import OWN_ACCOUNT
from quittance.tokens import SHOWN, TOKEN, new_token, token_hash

USUAL_PORT: Final = 8081
READ: Final = (
    "LOG_LEVEL LOG_FORMAT PUBLIC_URL WEB_HOST WEB_PORT CURRENCY_POLICY FORWARDED_HOPS "
    "STRIPE_API_KEY STRIPE_API_BASE STRIPE_CONNECT_BASE STRIPE_CONNECT_CLIENT_ID"
).split()
PATIENCE: Final = 30.0  # seconds

# The same token again is the same row.
GRANT: Final = """
INSERT INTO api_tokens (token_hash, prefix, account, livemode, permissions, note)
VALUES ($1, $2, $3, false, '{publish,read,connect}', $4)
ON CONFLICT (token_hash) DO UPDATE SET permissions = EXCLUDED.permissions
"""


def token_kept_in(file: Path) -> str:
    """The token of this checkout's own API: made once, kept."""
    if not file.exists() or not TOKEN.fullmatch(file.read_text().strip()):
        file.touch(mode=0o600)
        file.write_text(new_token(livemode=False))
    return file.read_text().strip()


async def grant(database_url: str, token: str, note: str, account: str = OWN_ACCOUNT) -> None:
    """Let the token publish, read and connect, in test mode, on the account (the key's own)."""
    db = await asyncpg.connect(database_url)
    try:
        await db.execute(GRANT, token_hash(token), token[:SHOWN], account, note)
    finally:
        await db.close()


def environment_of(chosen: Mapping[str, str], database_url: str, amqp_url: str) -> dict[str, str]:
    """What `python -m web` reads. A port that was asked for is taken, or refused by web itself; ours gives way."""
    port = chosen.get("WEB_PORT") or str(USUAL_PORT if is_free(USUAL_PORT) else free_ports(1)[0])
    return {
        "WEB_HOST": "127.0.0.1",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        **{name: chosen[name] for name in READ if name in chosen},
        "WEB_PORT": port,
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
    }


async def published_and_recalled(url: str, token: str, quote_id: str, crm: Crm) -> list[str]:
    """Publish a quote, twice, break a rule with another, recall it; what was not answered, or told, as it must be."""
    address = f"{url}/v1/quotes/{quote_id}"
    good = sample("sv", "2026-17")
    bad = good | {"line_items": [{"name": "Nothing", "unit_amount": 0}]}
    asked: list[tuple[str, str, Any, int]] = [
        ("PUT", address, good, 201),
        ("PUT", address, good, 200),
        ("PUT", address, bad, 409),
        ("PUT", f"{address}-bad", bad, 422),
        ("POST", f"{address}/recall", None, 200),
    ]
    wrong = []
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, trust_env=False) as session:
        for method, where, body, must in asked:
            async with session.request(method, where, json=body) as answer:
                if answer.status != must:
                    wrong.append(f"{method} {where} is answered {answer.status}, must be {must}: {await answer.text()}")
    return wrong + await _told(crm, quote_id)


async def _told(crm: Crm, quote_id: str) -> list[str]:
    told: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while told[-1:] != ["recalled"]:
                await asyncio.sleep(0.05)
                told = [change.data["status"] for change in crm.quotes.get(quote_id, [])]
    except TimeoutError:
        return [f"{quote_id}: the CRM was told {told}, the last must be recalled"]
    return []
