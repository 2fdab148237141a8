"""Requests are held against the parameters that Stripe publishes with its SDK."""

from decimal import Decimal
from typing import Any

import pytest
import stripe
from stripe.params import CouponCreateParams
from stripe.params.checkout import SessionCreateParams

from dev.stripe_events import API_VERSIONS
from tests.fakes.stripe.errors import Invalid
from tests.fakes.stripe.parameters import nested, typed
from tests.stripe_fake.conftest import Client, line


def test_the_events_are_of_the_release_whose_parameters_are_checked() -> None:
    """INVARIANT: an upgrade of the SDK that brings a new release is noticed here."""
    assert API_VERSIONS["endive"] == stripe.api_version


async def test_a_parameter_that_stripe_removed_is_refused(client: Client) -> None:
    """INVARIANT: `payment_method_types` went with 2026-09-30.endive; whoever still sends it hears so."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.session(payment_method_types=["card"])
    assert (refused.value.http_status, refused.value.code) == (400, "parameter_unknown")
    assert refused.value.param == "payment_method_types"


@pytest.mark.parametrize(
    ("changed", "code", "param"),
    [
        ({"line_items": [line(curency="eur")]}, "parameter_unknown", "line_items[0][price_data][curency]"),
        (
            {"line_items": [line(), {"quantity": 1, "price_data": {"unit_amount": 1}}]},
            "parameter_missing",
            "line_items[1][price_data][currency]",
        ),
        ({"line_items": [line(product_data={})]}, None, "line_items[0][price_data]"),
        (
            {"line_items": [line(product_data={"description": "A name is missing"})]},
            "parameter_missing",
            "line_items[0][price_data][product_data][name]",
        ),
        (
            {"line_items": [line(product_data={"name": "A", "description": ""})]},
            "parameter_invalid_empty",
            "line_items[0][price_data][product_data][description]",
        ),
        (
            {"line_items": [line(recurring={"interval": "quarter"})]},
            None,
            "line_items[0][price_data][recurring][interval]",
        ),
        ({"line_items": [line(unit_amount="15.00")]}, "parameter_invalid_integer", None),
        ({"mode": "checkout"}, None, "mode"),
        ({"locale": "xx"}, None, "locale"),
        ({"expires_at": "tomorrow"}, "parameter_invalid_integer", "expires_at"),
        ({"allow_promotion_codes": "perhaps"}, None, "allow_promotion_codes"),
        ({"payment_intent_data": {"metadta": {"quote_id": "Q"}}}, "parameter_unknown", "payment_intent_data[metadta]"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {f"k{number}": "v" for number in range(51)}}, None, "metadata"),
        ({"customer_email": "nobody"}, "email_invalid", "customer_email"),
        ({"success_url": "/q/t"}, "url_invalid", "success_url"),
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"mode": None}, "parameter_missing", "mode"),
    ],
)
async def test_what_is_not_published_is_refused_by_its_nested_name(
    client: Client, changed: dict[str, Any], code: str | None, param: str | None
) -> None:
    """INVARIANT: unknown, missing and ill-typed values are refused, named as they were sent."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.session(**changed)
    assert (refused.value.http_status, refused.value.code) == (400, code)
    assert param is None or refused.value.param == param


async def test_a_parameter_in_the_query_is_checked_too(client: Client) -> None:
    """INVARIANT: reading is checked as writing is."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.checkout.sessions.list_async({"metadata": {"quote_id": "Q"}})  # type: ignore[arg-type]
    assert refused.value.code == "parameter_unknown"


def test_values_get_their_types() -> None:
    """INVARIANT: what comes as text is a number, a truth value, a list where Stripe says so."""
    form = [
        ("line_items[0][quantity]", "2"),
        ("line_items[0][price_data][currency]", "eur"),
        ("line_items[0][price_data][unit_amount_decimal]", "12.5"),
        ("line_items[0][price_data][product_data][name]", "7"),
        ("automatic_tax[enabled]", "false"),
        ("metadata[0]", "1"),
        ("metadata[gone]", ""),
    ]
    assert typed(form, SessionCreateParams) == {
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "eur",
                    "unit_amount_decimal": Decimal("12.5"),
                    "product_data": {"name": "7"},
                },
            }
        ],
        "automatic_tax": {"enabled": False},
        "metadata": {"0": "1"},
    }


@pytest.mark.parametrize(
    "form",
    [
        [("line_items[1][quantity]", "1")],
        [("line_items", "1")],
        [("metadata", "1")],
        [("metadata[a]", "1"), ("metadata[a][b]", "1")],
        [("mode[a]", "payment")],
        [("[mode]", "payment")],
        [("line_items[0", "payment")],
        [("api_key", "sk_test_1")],
        [("stripe_account", "acct_1")],
    ],
)
def test_forms_that_make_no_sense(form: list[tuple[str, str]]) -> None:
    """INVARIANT: refused, never an error of the stand-in; options of the SDK are no parameters."""
    with pytest.raises(Invalid):
        typed(form, SessionCreateParams)


def test_a_call_without_parameters_takes_none() -> None:
    """INVARIANT: the same for what has no parameters at all."""
    assert typed([], None) == {}
    with pytest.raises(Invalid):
        typed([("a", "b")], None)


def test_the_sdks_own_options_are_not_parameters_of_any_call() -> None:
    """INVARIANT: they are fields of the same typed dict, and would hide a mistake."""
    with pytest.raises(Invalid):
        typed([("idempotency_key", "k")], CouponCreateParams)


def test_brackets_nest() -> None:
    """INVARIANT: as a form of Stripe's is read."""
    assert nested([("a[b][]", "1"), ("a[b][]", "2"), ("c", "3")]) == {"a": {"b": {"0": "1", "1": "2"}}, "c": "3"}
