"""How soon one batch follows another."""

import pytest

from workers.runtime.pace import LONGEST, next_begin


@pytest.mark.parametrize(
    ("took", "least", "waits"),
    [(0.001, 0.005, 0.005), (0.01, 0.005, 0.02), (0.01, 0.025, 0.025), (3.0, 0.005, LONGEST)],
)
def test_a_batch_that_took_long_is_followed_later(took: float, least: float, waits: float) -> None:
    assert next_begin(100.0, 100.0 + took, least) - 100.0 == pytest.approx(waits)
