"""The differentiable namespace has the standard's names, each exactly one of op, composite, nondifferentiable."""

from __future__ import annotations

import inspect

import pytest
import support

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import status
from agnostic_ad.errors import AgnosticADError

# Revision 2025.12 of the Array API standard, but for linalg, fft and the set functions.
STANDARD = {
    "elementwise": """abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or
        bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater greater_equal
        hypot imag isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
        maximum minimum multiply negative nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh sqrt
        square subtract tan tanh trunc""",
    "creation": """arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril triu zeros
        zeros_like""",
    "dtype": "astype can_cast finfo iinfo isdtype result_type",
    "indexing": "take take_along_axis",
    "manipulation": """broadcast_arrays broadcast_to broadcast_shapes concat expand_dims flip moveaxis permute_dims repeat reshape roll
        squeeze stack tile unstack""",
    "linear algebra": "matmul matrix_transpose tensordot vecdot",
    "searching": "argmax argmin count_nonzero nonzero searchsorted where",
    "sorting": "argsort sort",
    "statistical": "cumulative_sum cumulative_prod max mean min prod std sum var",
    "utility": "all any diff",
}
COUNTS = {"elementwise": 67, "creation": 16, "dtype": 6, "indexing": 2, "manipulation": 15, "linear algebra": 4, "searching": 6}
COUNTS |= {"sorting": 2, "statistical": 9, "utility": 3}
CONSTANTS = "e inf nan newaxis pi"
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"


@pytest.mark.parametrize("chapter", STANDARD)
def test_every_name_is_exactly_one_thing(chapter: str) -> None:
    names = STANDARD[chapter].split()
    assert len(names) == len(set(names)) == COUNTS[chapter]
    for name in names:
        assert status(name) in ("op", "composite", "nondifferentiable")


def test_a_name_that_is_nothing_is_found() -> None:
    with pytest.raises(LookupError, match="no_such_function is nothing in the op table"):
        status("no_such_function")


@pytest.mark.parametrize("chapter", STANDARD)
def test_every_name_is_there(chapter: str, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    for name in STANDARD[chapter].split():
        assert callable(getattr(xp, name)), name
        assert name in dir(xp)


def test_constants_and_dtypes_are_there(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    for name in (CONSTANTS + " " + DTYPES).split():
        assert hasattr(xp, name), name
    assert xp.newaxis is None
    assert set(xp.__array_namespace_info__().default_dtypes()) >= {"real floating", "indexing"}


def test_a_name_that_is_nobodys(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    with pytest.raises((AttributeError, AgnosticADError), match="no_such_function"):
        _ = xp.no_such_function


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("sin", "(x, /)"),
        ("add", "(x1, x2, /)"),
        ("clip", "(x, /, min=None, max=None)"),
        ("sum", "(x, /, *, axis=None, dtype=None, keepdims=False)"),
        ("concat", "(arrays, /, *, axis=0)"),
        ("take_along_axis", "(x, indices, /, *, axis=-1)"),
        ("sort", "(x, /, *, axis=-1, descending=False, stable=True)"),
        ("reshape", "(x, /, shape, *, copy=None)"),
        ("tensordot", "(x1, x2, /, *, axes=2)"),
        ("diff", "(x, /, *, axis=-1, n=1, prepend=None, append=None)"),
        ("cumulative_sum", "(x, /, *, axis=None, dtype=None, include_initial=False)"),
        ("meshgrid", "(*arrays, indexing='xy')"),
        ("var", "(x, /, *, axis=None, correction=0.0, keepdims=False)"),
    ],
)
def test_signatures_are_the_standards(name: str, signature: str) -> None:
    import numpy

    function = getattr(ad.differentiable(numpy), name)
    assert str(inspect.signature(function)) == signature
