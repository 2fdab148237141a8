"""Who is let in, and what no request may be: tokens, permissions, limits, headers, malformed requests."""

import asyncio
import io
import json
import logging
from typing import Any

import pytest
import structlog
from asyncpg.pool import Pool

from tests.support.cli import quittance
from tests.web.conftest import Api, Caller, quote
from web import tokens
from web.limits import Limiter
from web.security import MAX_BODY


async def test_no_token_and_a_wrong_one_are_answered_alike(api: Api) -> None:
    good = str(api.token)
    wrong = [
        None,
        "",
        "Bearer",
        good,
        f"Basic {good}",
        f"Bearer {good[:-1]}",
        f"Bearer {good}x",
        "Bearer ä",
        "Bearer x" * 99,
    ]
    for header in wrong:
        headers = {} if header is None else {"Authorization": header}
        answer = await Api(api.session, api.base, None).ask("GET", "/v1/quotes", headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "no_token"), header
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    other = good[:-2] + ("aa" if good[-2:] != "aa" else "bb")
    assert (await Api(api.session, api.base, other).list()).status == 401
    assert (await api.list()).status == 200
    assert (await api.ask("GET", "/v1/quotes", headers={"Authorization": f"bearer {good}"})).status == 200


async def test_a_token_is_kept_as_a_hash_only(api: Api, database: Pool) -> None:
    (row,) = await database.fetch("SELECT api_tokens::text AS everything, prefix FROM api_tokens")
    assert str(api.token) not in row["everything"]
    assert str(api.token).startswith(row["prefix"])


async def test_what_a_token_may(caller: Caller) -> None:
    reader, publisher = await caller("acct_1", "read"), await caller("acct_1", "publish")
    for answer in (await reader.publish("Q-1", quote()), await reader.recall("Q-1")):
        assert (answer.status, answer.json["code"]) == (403, "no_permission")
    assert (await publisher.publish("Q-1", quote())).status == 201
    for answer in (await publisher.read("Q-1"), await publisher.list(), await publisher.changes()):
        assert answer.status == 403
    assert (await reader.read("Q-1")).status == 200
    nobody = await caller("acct_1", "connect", "operate")
    assert (await nobody.read("Q-1")).status == (await nobody.recall("Q-1")).status == 403


async def test_tokens_are_made_listed_and_revoked_on_the_command_line(base: str, api: Api, database_url: str) -> None:
    def run(*arguments: object) -> Any:
        return quittance("tokens", *arguments, DATABASE_URL=database_url)

    made = (
        (await run("create", "--account", "acct_7", "--permission", "publish,read", "--note", "CRM", "--json"))
        .ok()
        .json
    )
    assert made["token"].startswith("qtn_test_")
    assert (made["account"], made["livemode"], made["permissions"]) == ("acct_7", False, ["publish", "read"])
    crm = Api(api.session, base, made["token"])
    assert (await crm.publish("Q-1", quote())).json["account"] == "acct_7"
    shown = (await run("create", "--account", "self", "--permission", "read", "--permission", "operate", "--live")).ok()
    assert shown.out.strip().startswith("qtn_live_")
    assert "not shown again" in shown.err
    rows = (await run("list", "--json")).ok().json
    assert [row["permissions"] for row in rows[1:]] == [["publish", "read"], ["read", "operate"]]
    assert made["token"] not in json.dumps(rows)
    assert "CRM" in (await run("list", "--account", "acct_7")).ok().out
    assert (await run("revoke", made["id"])).ok().out.strip() == "1 token revoked"
    assert (await crm.list()).status == 401
    assert [row["id"] for row in (await run("list", "--mode", "test", "--json")).json] == [rows[0]["id"]]
    assert len((await run("list", "--revoked", "--json")).json) == 3
    assert (await run("revoke", made["id"], 99)).code == 1
    for wrong in (["--permission", "all", "--account", "x"], ["--permission", "read"], ["--account", "x"]):
        assert (await run("create", *wrong)).code == 2


async def test_a_token_that_calls_too_often_is_told_when_to_come_back(
    api: Api, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = await asyncio.gather(*(api.read("Q-1") for _ in range(3 * tokens.BURST)))
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].json["code"] == "too_many_requests"
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert (await (await caller()).read("Q-1")).status == 404, "another token is not hindered"


async def test_whoever_guesses_tokens_is_slowed_down_and_hinders_nobody(api: Api) -> None:
    stranger = Api(api.session, api.base, "qtn_test_" + "A" * 43)
    answers = [await stranger.list() for _ in range(tokens.FAILURES_AT_ONCE + 5)]
    assert answers[0].status == 401
    assert answers[-1].status == 429
    assert (await api.list()).status == 200


def test_a_bucket_fills_again() -> None:
    now = 0.0
    limiter = Limiter(rate=2, burst=3, clock=lambda: now)
    assert [limiter.wait("a") for _ in range(4)] == [None, None, None, 0.5]
    assert limiter.wait("b") is None
    now = 0.5
    assert [limiter.wait("a"), limiter.wait("a")] == [None, 0.5]
    now = 100.0
    assert [limiter.wait("a") for _ in range(4)] == [None, None, None, 0.5]


async def test_every_answer_carries_the_headers_that_protect(api: Api) -> None:
    for path in ("/v1/quotes", "/v1/quotes/Q-none", "/nowhere", "/healthz", "/openapi.json"):
        headers = (await api.ask("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert headers["Server"] == "quittance"
        assert headers["X-Request-Id"]
    assert (await api.list()).headers["Cache-Control"] == "no-store"


async def test_a_request_id_is_the_callers_where_it_is_well_formed(api: Api) -> None:
    given = await api.ask("GET", "/v1/quotes/Q-none", headers={"X-Request-Id": "crm-4711.a_b"})
    assert given.headers["X-Request-Id"] == given.json["request_id"] == "crm-4711.a_b"
    for bad in ("short", "x" * 65, "with blanks in it", 'quote"quote'):
        answer = await api.ask("GET", "/v1/quotes/Q-none", headers={"X-Request-Id": bad})
        assert answer.headers["X-Request-Id"] != bad


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"data": b"{"}, 400, "not_json"),
        ({"data": b""}, 400, "not_json"),
        ({"data": b"\xff"}, 400, "not_json"),
        ({"data": b"[" * 100_000}, 400, "not_json"),
        ({"data": b'{"title": "\\ud800"}'}, 400, "not_json"),
        ({"data": b'{"title": NaN}'}, 400, "not_json"),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "not_json"),
        ({"data": b"{}", "headers": {"Content-Encoding": "gzip"}}, 415, "compressed_body"),
        ({"data": io.BytesIO(b" " * (MAX_BODY + 1))}, 413, "body_too_large"),
        ({"data": b"[]"}, 422, "quote_refused"),
        ({"data": b"null"}, 422, "quote_refused"),
        ({"data": b"1e400"}, 400, "not_json"),
        ({"data": b'{"title": 123456789012345678901234567890}'}, 422, "quote_refused"),
        ({"data": b"{}", "params": {"force": "1"}}, 400, "unknown_parameter"),
    ],
)
async def test_what_is_no_quote_is_said_so(api: Api, given: dict[str, Any], status: int, code: str) -> None:
    headers = {"Content-Type": "application/json"} | given.pop("headers", {})
    answer = await api.ask("PUT", "/v1/quotes/Q-1", headers=headers, **given)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_body_in_chunks_is_measured_too(api: Api) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 65_536

    answer = await api.ask("PUT", "/v1/quotes/Q-1", headers={"Content-Type": "application/json"}, data=chunks())
    assert answer.status == 413


@pytest.mark.parametrize("quote_id", ["-", ".", "%20Q", "Q%2F1", "Q%001", "%C3%84", "Q" * 201, "%ff"])
async def test_a_quote_id_that_could_not_be_kept_apart_is_refused(api: Api, quote_id: str) -> None:
    from yarl import URL

    async def ask(method: str, path: str, **given: Any) -> int:
        url = URL(f"{api.base}{path}", encoded=True)
        async with api.session.request(
            method, url, headers={"Authorization": f"Bearer {api.token}"}, **given
        ) as answer:
            return answer.status

    assert await ask("PUT", f"/v1/quotes/{quote_id}", json=quote()) in (404, 422)
    assert await ask("GET", f"/v1/quotes/{quote_id}") in (404, 400)
    assert await ask("POST", f"/v1/quotes/{quote_id}/recall") in (404, 400)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/quotes?status=PAID",
        "/v1/quotes?statsu=paid",
        "/v1/quotes?status=paid&status=pending",
        "/v1/quotes?limit=0",
        "/v1/quotes?limit=201",
        "/v1/quotes?limit=x",
        "/v1/quotes?cursor=",
        "/v1/quotes?cursor=AA",
        "/v1/quotes?cursor=%C3%A4",
        "/v1/changes?limit=1001",
        "/v1/changes?before=1",
    ],
)
async def test_a_question_that_is_misspelt_is_not_answered(api: Api, path: str) -> None:
    assert (await api.ask("GET", path)).status == 400


async def test_other_methods_and_paths(api: Api) -> None:
    for method in ("POST", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        answer = await api.ask(method, "/v1/quotes/Q-1")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, PUT")
    assert (await api.ask("GET", "/v2/quotes")).json["code"] == "not_found"
    assert (await api.ask("GET", "/v1/quotes/")).status == 404


async def test_a_fault_of_ours_tells_nobody_what_it_was(api: Api, database: Pool) -> None:
    await database.execute("ALTER TABLE published_quotes RENAME COLUMN content TO hidden")
    answer = await api.publish("Q-1", quote())
    assert (answer.status, answer.json["code"]) == (500, "our_fault")
    assert "hidden" not in json.dumps(answer.json)
    assert "content" not in answer.json["detail"]


async def test_what_is_locked_for_too_long_is_to_be_sent_again(api: Api, database: Pool) -> None:
    async with database.acquire() as db, db.transaction():
        await db.execute("LOCK TABLE published_quotes IN ACCESS EXCLUSIVE MODE")
        answer = await api.publish("Q-1", quote())
    assert (answer.status, answer.json["code"]) == (503, "database_away")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await api.publish("Q-1", quote())).status == 201


async def test_readiness_says_what_is_missing(api: Api, database: Pool) -> None:
    assert (await api.ask("GET", "/readyz")).json == {"ready": True}
    assert (await api.ask("GET", "/healthz")).json == {"alive": True}
    await database.execute("ALTER TABLE published_quotes RENAME TO hidden")
    answer = await api.ask("GET", "/readyz")
    assert (answer.status, answer.json["reason"]) == (503, "tables_missing")


async def test_the_log_holds_no_personal_data_and_no_secret(api: Api) -> None:
    with structlog.testing.capture_logs() as lines:
        await api.publish("Q-1", quote(contact={"email": "bo@example.com", "first_name": "Bo"}))
        await api.publish("Q-2", quote(title=""))
        async with api.session.get(f"{api.base}/q/a-secret-address") as answer:
            assert answer.status == 404
    logged = json.dumps(lines)
    for secret in ("bo@example.com", "sal@example.com", str(api.token), "a-secret-address"):
        assert secret not in logged


@pytest.fixture(autouse=True)
def say_everything() -> Any:
    """Only what is worth a line is logged otherwise (tests/conftest.py)."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield
    structlog.configure(**before)
