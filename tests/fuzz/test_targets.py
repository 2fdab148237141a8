"""The pure parts under any bytes: the signature, the envelope, what each worker reads of an event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quittance.domain.document_owners import named_from
from quittance.errors import Rejected
from tests.fuzz import seeds, smtp
from tests.fuzz.mutations import RAW, mutated
from tests.fuzz.profile import bounded
from tests.fuzz.targets import SPLIT, TARGETS, fuzz_envelope, fuzz_facts, fuzz_own, fuzz_signature

HEADERS = st.one_of(
    st.binary(max_size=1_100),
    st.text("tv10=,. ;\u0660\u2170", max_size=60).map(str.encode),
    st.builds(
        lambda stamp, scheme, value, more: f"t={stamp},{scheme}={value}{more}".encode(errors="replace"),
        st.integers() | st.floats() | st.sampled_from([1_790_000_000, "1790000000,t=1", "\u0661", "1_0", "+1", " 1"]),
        st.sampled_from(["v1", "v0", "", "V1"]),
        st.sampled_from(["0" * 64, "f" * 64, "", "é", "=", "," * 900]),
        st.text(max_size=5),
    ),
)
# A failing example may be too long for hypothesis to print; that warning would stand in the failure's place.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
BODIES = st.binary(max_size=300) | mutated(seeds.events()) | st.sampled_from(RAW)


@bounded(300)
@given(HEADERS, BODIES)
def test_no_header_is_believed_or_breaks_the_check(header: bytes, body: bytes) -> None:
    """INVARIANT: whatever a header and a body hold, the check says BadSignature, and only our own signature is good."""
    fuzz_signature(header + SPLIT + body)


@bounded(300)
@given(BODIES)
def test_a_signed_body_is_refused_or_an_event_that_can_be_carried(body: bytes) -> None:
    """INVARIANT: 400, or an event whose names a queue and a table can hold, and that comes back from its headers whole."""
    fuzz_envelope(body)


@bounded(300)
@given(BODIES)
def test_every_worker_reads_or_rejects(body: bytes) -> None:
    """INVARIANT: reading raises Rejected or nothing: anything else would be tried again six times in vain."""
    fuzz_facts(body)


@bounded(200)
@given(BODIES)
def test_our_own_messages_are_read_or_rejected(body: bytes) -> None:
    """INVARIANT: the same of what is not Stripe's: a change that a mail is made of, a command's sender."""
    fuzz_own(body)


CODES = st.sampled_from([b"250", b"354", b"421", b"451", b"550", b"503", b"220", b"2", b"", b"999", b"abc"])
SAID = st.builds(
    lambda code, join, text, end: code + join + text + end,
    CODES,
    st.sampled_from([b" ", b"-", b""]),
    st.binary(max_size=20),
    st.sampled_from([b"\r\n", b"\n", b"", smtp.PAUSE, b"\r\n" + smtp.PAUSE]),
)
GOOD = st.sampled_from(smtp.SEEDS)


@bounded(300)
@given(
    st.builds(
        lambda good, said, cut: good[:cut] + b"".join(said), GOOD, st.lists(SAID, max_size=12), st.integers(1, 60)
    )
)
def test_whatever_a_mail_server_says_is_a_refusal_a_loss_or_a_mail_that_is_sent(said: bytes) -> None:
    """INVARIANT: no mail is handed over but to a server that has taken its sender, its recipient and DATA."""
    smtp.fuzz_smtp(said)


@pytest.mark.parametrize("name", TARGETS)
def test_every_real_event_passes_every_target(name: str) -> None:
    """INVARIANT: what the fuzzer begins from is good."""
    for seed in seeds.of(name):
        TARGETS[name](seed)


NAMING = '{"id":"e","type":"quote.documents_named","data":{"object":{"quote_id":"Q","version":1,"documents":[%s]}}}'
FOUND = {
    "half a character where a word is due": ("facts", (NAMING % '{"object_id":"ch_1","kind":"\\ud800"}').encode()),
    "a sender nested beyond all depth": ("own", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_stays_mended(name: str) -> None:
    """INVARIANT: what once raised something else is Rejected."""
    target, body = FOUND[name]
    TARGETS[target](body)


@pytest.mark.parametrize(
    "subject", [{"quote_id": "\x00"}, {"documents": [{"object_id": "\ud800", "kind": "receipt"}]}, {"version": 2**63}]
)
def test_a_naming_that_cannot_be_stored_is_rejected(subject: dict[str, object]) -> None:
    """INVARIANT: what Postgres would refuse is refused before it, once, and not tried six times."""
    with pytest.raises(Rejected):
        named_from({"quote_id": "Q", "version": 1, "documents": [], **subject})
