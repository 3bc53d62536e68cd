"""Which library multiplies float32 matrices, and that they stay float32."""

from collections.abc import Iterator

import pytest
import torch

from sslens import processes
from sslens.processes import fast_products

MATMUL = processes.ONEDNN.matmul


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What is known of the processor is found out anew."""
    processes.gains_by_onednn.cache_clear()
    yield
    processes.gains_by_onednn.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, **cpu: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)


def test_products_are_float32_on_every_processor() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 96, 1000, generator=generator)
    with fast_products():
        product = a @ b.mT
    exact = a.double() @ b.double().mT
    assert (product - exact).abs().max() < 1e-4  # in bfloat16 0.3


def test_the_choice_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, sse4a=True, avx512_f=True, avx512_vp2intersect=True)
    monkeypatch.setattr(processes, "_is_exact", lambda multiply: True)
    with fast_products() as taken, fast_products() as again:
        assert taken == processes.ONEDNN.is_available()
        assert not again  # it leaves that to the outer one
    assert MATMUL.fp32_precision == "none"

    @fast_products()
    def fail() -> None:
        raise ZeroDivisionError(MATMUL.fp32_precision)

    with pytest.raises(ZeroDivisionError, match="bf16" if taken else "none"):
        fail()
    assert MATMUL.fp32_precision == "none"


def test_other_processors_and_rounded_products_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, sse4a=True, avx512_f=True)  # Zen 4
    with fast_products() as taken:
        assert not taken
    processes.gains_by_onednn.cache_clear()
    pretend(monkeypatch, sse4a=True, avx512_f=True, avx512_vp2intersect=True)
    monkeypatch.setattr(processes, "_is_exact", lambda multiply: False)
    with fast_products() as taken:
        assert not taken
    assert MATMUL.fp32_precision == "none"


def test_what_a_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, sse4a=True, avx512_f=True, avx512_vp2intersect=True)
    monkeypatch.setattr(processes, "_is_exact", lambda multiply: True)
    MATMUL.fp32_precision = "ieee"
    try:
        with fast_products() as taken:
            assert not taken
            assert MATMUL.fp32_precision == "ieee"
    finally:
        MATMUL.fp32_precision = "none"
