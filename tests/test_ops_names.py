"""The differentiable namespace has the standard's names and signatures; each is exactly one of op, composite, nondifferentiable."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import graph
from agnostic_ad.conformance.catalogue import status
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.ops.creation import CARRIES

# Revision 2025.12 of the Array API standard. None of its names is refused: what one library lacks, that library's backend says.
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
    "linalg": """linalg.cholesky linalg.cross linalg.det linalg.diagonal linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh linalg.inv
        linalg.matmul linalg.matrix_norm linalg.matrix_power linalg.matrix_rank linalg.matrix_transpose linalg.outer linalg.pinv linalg.qr
        linalg.slogdet linalg.solve linalg.svd linalg.svdvals linalg.tensordot linalg.trace linalg.vecdot linalg.vector_norm""",
    "fft": """fft.fft fft.ifft fft.fftn fft.ifftn fft.rfft fft.irfft fft.rfftn fft.irfftn fft.hfft fft.ihfft fft.fftfreq fft.rfftfreq
        fft.fftshift fft.ifftshift""",
    "searching": "argmax argmin count_nonzero nonzero searchsorted where",
    "set": "isin unique_all unique_counts unique_inverse unique_values",
    "sorting": "argsort sort",
    "statistical": "cumulative_sum cumulative_prod max mean min prod std sum var",
    "utility": "all any diff",
}
COUNTS = {"elementwise": 67, "creation": 16, "dtype": 6, "indexing": 2, "manipulation": 15, "linear algebra": 4, "searching": 6}
COUNTS |= {"linalg": 25, "fft": 14, "set": 5, "sorting": 2, "statistical": 9, "utility": 3}
CONSTANTS = "e inf nan newaxis pi"
DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128"
FACTS = "__array_api_version__ __array_namespace_info__"


def find(xp: Any, name: str) -> Any:
    """Look up a name that may have a dot."""
    for part in name.split("."):
        xp = getattr(xp, part)
    return xp


def theirs() -> Iterator[str]:
    """Name what array-api-strict, which has nothing but the standard, says that it has."""
    strict = pytest.importorskip("array_api_strict")
    helpers = {"Device", "ArrayAPIStrictFlags", "__version__", "linalg", "fft"}
    yield from (n for n in strict.__all__ if n not in helpers and not n.endswith("_array_api_strict_flags"))
    yield from (f"{extension}.{n}" for extension in ("linalg", "fft") for n in getattr(strict, extension).__all__)


@pytest.mark.parametrize("chapter", STANDARD)
def test_every_name_is_exactly_one_thing(chapter: str) -> None:
    names = STANDARD[chapter].split()
    assert len(names) == len(set(names)) == COUNTS[chapter]
    for name in names:
        assert status(name) in ("op", "composite", "nondifferentiable")


def test_a_name_that_is_nothing_is_found() -> None:
    with pytest.raises(LookupError, match="no_such_function is nothing in the op table"):
        status("no_such_function")


CARRYING: dict[str, Any] = {
    "asarray": lambda xp, v: xp.asarray(v),
    "from_dlpack": lambda xp, v: xp.from_dlpack(v),
    "full": lambda xp, v: xp.full((2,), v),
    "full_like": lambda xp, v: xp.full_like(xp.ones(2), v),
    "linspace": lambda xp, v: xp.linspace(v, 1.0, 3),
}
NOT_CARRYING: dict[str, Any] = {
    "arange": lambda xp, v: xp.arange(v),
    "empty_like": lambda xp, v: xp.empty_like(v),
    "ones_like": lambda xp, v: xp.ones_like(v),
    "zeros_like": lambda xp, v: xp.zeros_like(v),
    "fft.fftfreq": lambda xp, v: xp.fft.fftfreq(3, d=v),
}


def test_creation_functions_say_what_they_are() -> None:
    """`status` believes them."""
    assert CARRYING.keys() == CARRIES
    xp = ad.differentiable(np)
    for names, carries in ((CARRYING, True), (NOT_CARRYING, False)):
        for name, make in names.items():
            assert make(xp, ad.Variable(np.asarray(2.0))).requires_grad == carries, name
            assert status(name) == ("composite" if carries else "nondifferentiable")


def test_the_list_is_the_standards() -> None:
    ours = {name for names in (*STANDARD.values(), CONSTANTS, DTYPES, FACTS) for name in names.split()}
    listed = set(theirs())
    strict = pytest.importorskip("array_api_strict")
    assert listed <= ours
    assert ours - listed <= {"linalg.eig", "linalg.eigvals"}  # there, but listed nowhere
    assert all(find(strict, name) is not None or name == "newaxis" for name in ours)


@pytest.mark.parametrize("name", [name for names in STANDARD.values() for name in names.split()])
def test_signatures_are_the_standards(name: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    wanted, given = (inspect.signature(find(xp, name)).parameters.values() for xp in (strict, ad.differentiable(np)))
    assert [(p.name, p.kind) for p in given] == [(p.name, p.kind) for p in wanted]
    for ours, other in zip(given, wanted, strict=True):
        default = None if type(other.default).__name__ == "Undef" else other.default
        assert ours.default == default or (name, ours.name) == ("expand_dims", "axis")  # which had a default in earlier revisions


@pytest.mark.parametrize("chapter", STANDARD)
def test_every_name_is_there(chapter: str, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    for name in STANDARD[chapter].split():
        assert callable(find(xp, name)), name
        path, _, short = name.rpartition(".")
        assert short in dir(find(xp, path) if path else xp)


def test_constants_and_dtypes_are_there(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    for name in (CONSTANTS + " " + DTYPES).split():
        assert hasattr(xp, name) and name in dir(xp), name
        assert status(name) == "nondifferentiable"
    assert (xp.e, xp.pi, xp.inf, xp.newaxis) == (math.e, math.pi, math.inf, None) and math.isnan(xp.nan)
    assert set(xp.__array_namespace_info__().default_dtypes()) >= {"real floating", "indexing"}


def test_capabilities_are_those_of_the_library_and_the_transformation(backend: support.Backend) -> None:
    """array-api-extra, and SciPy with it, asks before it picks by a mask."""
    seen: list[Any] = []

    def look(x: Any) -> Any:
        seen.append(ad.namespace(x).__array_namespace_info__().capabilities())
        return (x * x).sum()

    x = backend.asarray([[1.0, 2.0]])
    own = backend_of_namespace(backend.xp).xp.__array_namespace_info__().capabilities()
    ad.grad(look)(x)
    look(ad.Variable(x))
    assert seen == [own, own]
    seen.clear()
    ad.vmap(look)(x)
    ad.vmap(ad.grad(look))(x)
    graph.capture(ad.grad(look), x)
    assert seen == [{**own, "boolean indexing": False, "data-dependent shapes": False}] * 3
    info = ad.differentiable(backend.xp).__array_namespace_info__()
    assert info.devices() == backend_of_namespace(backend.xp).xp.__array_namespace_info__().devices()


def test_a_choice_by_array_api_extra_works_in_batches_and_captures() -> None:
    xpx = pytest.importorskip("array_api_extra")

    def f(x: Any) -> Any:
        return xpx.apply_where(x > 0, (x,), lambda v: v * v, fill_value=7.0)

    x = np.asarray([[1.0, -4.0], [4.0, 9.0]])
    expected = [[1.0, 7.0], [16.0, 81.0]]
    assert f(ad.Variable(x)).tolist() == ad.vmap(f)(x).tolist() == graph.capture(f, x)(x).tolist() == expected
    assert ad.vmap(ad.grad(lambda v: f(v).sum()))(x).tolist() == [[2.0, 0.0], [8.0, 18.0]]


def test_a_name_that_is_nobodys(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    with pytest.raises((AttributeError, AgnosticADError), match="no_such_function"):
        _ = xp.no_such_function
