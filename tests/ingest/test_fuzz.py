"""Rubbish at random, through the door."""

import http.client
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.ingress import PATH, Ingress, signed

# As a header may be sent by http.client: Latin-1, no line ends.
header_values = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=100),
    st.text("tv10=,. abcf", max_size=100),
    st.builds(lambda t, more: f"t={t},v1={'0' * 64}{more}", st.integers(), st.text("tv1=,0", max_size=20)),
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "x"]), inner),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"id": st.text(max_size=260), "type": st.text(max_size=260)}, optional={"account": st.text(max_size=300)}
    ).map(lambda value: json.dumps(value).encode()),
)


@given(header_values, bodies, st.booleans())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_sent_is_answered_with_a_500(
    shared_ingress: Ingress, header: str, body: bytes, well_signed: bool
) -> None:
    """INVARIANT: whatever arrives is answered with 200 or 400; a 500 would have Stripe send it for three days."""
    headers = signed(body)["Stripe-Signature"] if well_signed else header
    connection = http_client(shared_ingress)
    try:
        connection.request("POST", PATH, body, {"Stripe-Signature": headers})
        status = connection.getresponse().status
    finally:
        connection.close()

    assert status in ({200, 400} if well_signed else {400})


def http_client(ingress: Ingress) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", ingress.port, timeout=10)
