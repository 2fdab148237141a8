"""The command line of the benchmark."""

import pytest

from bench.options import ANYWHERE, SECTIONS, SIZES, arguments

OTHER = [
    *("--url", "http://127.0.0.1:8080/webhooks/stripe", "--secret", "whsec_x"),
    *("--database-url", "postgresql://localhost/x", "--amqp-url", "amqp://localhost/"),
]


def test_all_sections_one_shape() -> None:
    chosen = arguments([])
    assert (chosen.only, chosen.shapes, chosen.addresses) == (list(SECTIONS), ["apart"], None)
    assert chosen.lives == SIZES["lives"][1]


def test_quick_leaves_what_was_asked_for() -> None:
    chosen = arguments(["--quick", "--growth-archive", "77"])
    assert (chosen.growth_archive, chosen.backlog) == (77, SIZES["backlog"][2])


def test_both_shapes_in_the_order_asked_for() -> None:
    assert arguments(["--together", "--apart", "--together"]).shapes == ["together", "apart"]


def test_another_instance_is_only_measured_from_outside() -> None:
    chosen = arguments(OTHER)
    assert chosen.only == list(ANYWHERE)
    assert chosen.addresses is not None
    assert chosen.addresses.url == OTHER[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only", "fast,nothing"], "no section nothing"),
        (["--backlog", "0"], "at least 1"),
        (OTHER[:4], "belong together"),
        ([*OTHER, "--url", "http://stripe.example/"], "is not this machine"),
        ([*OTHER, "--only", "growth,flush"], "only these can be measured"),
    ],
)
def test_what_cannot_be_is_said(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(given)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
