"""The signature, compared by Stripe's library behind our guards; and what a signed body must be."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.app import Refused, parsed
from ingest.signature import BadSignature, check_header, verify
from quittance.event import Event, storable

NOW = 1_790_000_000.0
SECRETS = ("whsec_old", "whsec_new")
BODY = b'{"id":"evt_1","type":"charge.succeeded"}'


def header_of(body: bytes = BODY, secret: str = SECRETS[0], t: str = "1790000000") -> str:
    return f"t={t},v1={hmac.new(secret.encode(), t.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def reason_of(values: list[str], body: bytes = BODY, now: float = NOW, secrets: tuple[str, ...] = SECRETS) -> str:
    try:
        verify(body, check_header(values, now), secrets)
    except BadSignature as bad:
        return bad.reason
    return "good"


def test_stripes_own_known_answer_verifies(payloads: Path) -> None:
    """From the tests of stripe-dotnet."""
    (recorded,) = payloads.rglob("stripedotnet__customer.created__*")
    known = "t=1533204620,v1=2220f87ef101a04665f11cdf770523143f875572008577fa0f20882ddb9cc3c7"

    assert reason_of([known], recorded.read_bytes(), 1_533_204_620, ("webhook_secret",)) == "good"


def test_a_known_answer_computed_elsewhere_verifies() -> None:
    # By openssl dgst -sha256 -hmac whsec_old, of the time, a dot, and BODY.
    known = "t=1790000000,v1=85d464be2e890add653d5bab33854e41192f226d49e4333696646f09a943061b"

    assert reason_of([known]) == "good"


@pytest.mark.parametrize("secret", SECRETS)
def test_any_of_the_secrets_will_do(secret: str) -> None:
    assert reason_of([header_of(secret=secret)]) == "good"


def test_any_of_the_signatures_will_do() -> None:
    """While a secret is rolled Stripe signs with both, and we may know only one of them."""
    good = header_of()
    unknown = header_of(secret="whsec_of_nobody").split(",")[1]

    assert reason_of([f"{good},{unknown}"]) == "good"
    assert reason_of([f"t=1790000000,{unknown},{good.split(',')[1]}"]) == "good"


def test_what_the_library_signs_we_verify() -> None:
    library = stripe.WebhookSignature.generate_signature_header(BODY.decode(), SECRETS[1], int(NOW))

    assert reason_of([library]) == "good"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "good"),
        (300, "good"),
        (-300, "good"),
        (301, "stale_signature"),
        (-301, "future_signature"),
        (10**9, "stale_signature"),
        (-(10**9), "future_signature"),
    ],
)
def test_the_tolerance_has_two_sides(seconds: int, expected: str) -> None:
    assert reason_of([header_of()], now=NOW + seconds) == expected


DIGEST = header_of().split("v1=")[1]

MALFORMED = {
    "none": ([], "no_signature"),
    "two headers": ([header_of(), header_of()], "malformed_signature"),
    "empty": ([""], "malformed_signature"),
    "no t": ([f"v1={DIGEST}"], "malformed_signature"),
    "two t": ([f"t=1790000000,{header_of()}"], "malformed_signature"),
    "t of letters": ([f"t=now,v1={DIGEST}"], "malformed_signature"),
    "t empty": ([f"t=,v1={DIGEST}"], "malformed_signature"),
    "t negative": ([f"t=-1790000000,v1={DIGEST}"], "malformed_signature"),
    "t with a sign": ([f"t=+1790000000,v1={DIGEST}"], "malformed_signature"),
    "t with underscores, which int() reads": ([f"t=1_790_000_000,v1={DIGEST}"], "malformed_signature"),
    "t of other digits, which int() reads": ([f"t=\u0661\u0667\u0669,v1={DIGEST}"], "malformed_signature"),
    "t with a blank": ([f"t= 1790000000,v1={DIGEST}"], "malformed_signature"),
    "t of 900 digits": ([f"t={'9' * 900},v1={DIGEST}"], "malformed_signature"),
    "t with a line end": ([f"t=1790000000\n,v1={DIGEST}"], "malformed_signature"),
    "not ASCII": ([f"t=1790000000,v1=é{DIGEST[1:]}"], "malformed_signature"),
    "10,000 signatures": ([f"t=1790000000{f',v1={DIGEST}' * 10_000}"], "malformed_signature"),
    "only v0": ([f"t=1790000000,v0={DIGEST}"], "wrong_signature"),
    "no scheme": (["t=1790000000"], "wrong_signature"),
    "upper case": ([f"t=1790000000,v1={DIGEST.upper()}"], "wrong_signature"),
    "one digit off": ([f"t=1790000000,v1={'1' if DIGEST[0] == '0' else '0'}{DIGEST[1:]}"], "wrong_signature"),
    "cut": ([f"t=1790000000,v1={DIGEST[:-1]}"], "wrong_signature"),
    "empty v1": (["t=1790000000,v1="], "wrong_signature"),
    "of another time": ([f"t=1790000001,v1={DIGEST}"], "wrong_signature"),
    "a bare item": ([f"t=1790000000,v1,v1={DIGEST}"], "wrong_signature"),
}


@pytest.mark.parametrize(("values", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_has_its_reason(values: list[str], expected: str) -> None:
    assert reason_of(values) == expected


def test_no_secret_verifies_nothing() -> None:
    assert reason_of([header_of(secret="")], secrets=()) == "wrong_signature"


def test_a_body_that_is_not_text_is_refused_though_it_is_signed() -> None:
    assert reason_of([header_of(b"\xff\xfe")], b"\xff\xfe") == "body_not_utf8"


REASONS = {"good", *(expected for _, expected in MALFORMED.values())} | {
    "stale_signature",
    "future_signature",
    "body_not_utf8",
}

headers = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="tv10=, .abcdef9", max_size=120),
    st.builds(
        lambda t, scheme, digest, more: f"t={t},{scheme}={digest}{more}",
        st.one_of(st.integers().map(str), st.just("1790000000"), st.text(max_size=12)),
        st.sampled_from(["v1", "v0", "V1", "", "t"]),
        st.one_of(st.just(DIGEST), st.text(max_size=70)),
        st.text(max_size=20),
    ),
)


@given(st.lists(headers, max_size=2), st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_no_header_and_no_body_raise_anything_but_bad_signature(values: list[str], body: bytes) -> None:
    """INVARIANT: verifying raises BadSignature or nothing; else somebody's rubbish would become our 500."""
    assert reason_of(values, body) in REASONS


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_only_a_real_signature_is_good(body: bytes) -> None:
    """INVARIANT: the library, behind our guards, says yes to exactly what the secret signed."""
    try:
        body.decode()
        expected = "good"
    except UnicodeDecodeError:
        expected = "body_not_utf8"
    assert reason_of([header_of(body)], body) == expected
    assert reason_of([header_of(body + b" ")], body) in {"wrong_signature", "body_not_utf8"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.text(min_size=1, max_size=260) | json_values
envelopes = st.fixed_dictionaries(
    {}, optional={"id": names, "type": names, "account": names, **dict.fromkeys(("livemode", "created"), json_values)}
)


@given(envelopes)
@settings(max_examples=500, deadline=None)
def test_no_envelope_raises_anything_but_a_refusal(envelope: dict[str, object]) -> None:
    """INVARIANT: a signed body is an event with keys that AMQP and Postgres can hold, or a 400."""
    body = json.dumps(envelope).encode()
    event = parsed_or_refused(body)
    if event is not None:
        assert event.body is body
        assert (event.id, event.type) == (storable(str(envelope["id"])), storable(str(envelope["type"])))
        assert all(0 < len(name.encode()) <= 255 for name in (event.id, event.type, event.account))
        assert event.livemode is (envelope.get("livemode") is True)


def parsed_or_refused(body: bytes) -> Event | None:
    """The event, or None where the answer is 400; whatever else is raised fails the test."""
    try:
        return parsed(body, NOW, None)
    except Refused as refused:
        if refused.status != 400:
            raise
        return None


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    parsed_or_refused(body)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000, "1e-400"])
def test_a_number_beyond_all_measure_is_no_reason_to_refuse(number: str) -> None:
    """Only `id` and `type` can make a signed event a 400; what is absurd in `created` counts as absent."""
    event = parsed(
        b'{"id":"evt_1","type":"t","account":"acct_1","livemode":true,"created":%s}' % number.encode(), 1, None
    )

    assert (event.created, event.account, event.livemode) == (0, "acct_1", True)
