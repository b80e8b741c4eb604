from __future__ import annotations

import pytest

from ops.bench.figures import Figures, median, quantile


def test_figures_of_latencies() -> None:
    figures = Figures.from_latencies([float(n) for n in range(100, 0, -1)], errors=10, elapsed_s=2.0, units=5)
    assert figures == Figures(rate=225.0, p50_ms=51.0, p99_ms=100.0, requests=100, errors=10)


@pytest.mark.parametrize(("values", "share", "expected"), [([], 0.5, 0.0), ([7.0], 0.99, 7.0), ([1.0, 2.0], 1.0, 2.0)])
def test_quantile_at_its_edges(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_median_is_taken_field_by_field() -> None:
    runs = [Figures(1.0, 30.0, 5.0, 10, 0), Figures(3.0, 10.0, 6.0, 10, 1), Figures(2.0, 20.0, 4.0, 10, 0)]
    assert median(runs) == Figures(2.0, 20.0, 5.0, 30, 1)
