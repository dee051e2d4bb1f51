"""Fourier transforms against NumPy's matrices, torch and jax; sizes and axes as the standard has them; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, kind

import agnostic_ad as ad
from agnostic_ad import graph
from agnostic_ad.errors import AxisError
from agnostic_ad.op import TABLE

NORMS = ("backward", "ortho", "forward")
REAL = ("rfft", "rfftn", "ihfft")  # what takes real arrays
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY = ("fftn", "ifftn", "rfftn", "irfftn")
FORMS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    *((name, (m,), {"n": n}) for name in ONE for m in (2, 3, 6) for n in (None, 1, 2, 3, 4, 5, 8)),
    *((name, (2, 3, 2), {"axis": axis, "n": 4}) for name in ONE for axis in (0, -2, 2)),
    *((name, (3, 4), how) for name in MANY for how in ({}, {"axes": (0,)}, {"axes": (-1, 0)}, {"s": (5, 3), "axes": (0, 1)})),
    *((name, (2, 3, 4), {"s": (3, -1), "axes": (2, 0)}) for name in MANY),
]


def numbers(shape: tuple[int, ...], real: bool, draw: int = 0) -> Any:
    rng = np.random.default_rng(draw)
    x = rng.standard_normal(shape)
    return x if real else x + 1j * rng.standard_normal(shape)


def plain(name: str, how: dict[str, Any]) -> Callable[[Any], Any]:
    """NumPy's function, with -1 written out: its irfftn does not count the elements that -1 stands for as the standard does."""

    def f(x: Any) -> Any:
        given = dict(how)
        if "s" in how:
            sizes = [x.shape[a] for a in how["axes"]]
            sizes[-1] = 2 * (sizes[-1] - 1) if name == "irfftn" else sizes[-1]
            given["s"] = tuple(m if n == -1 else n for n, m in zip(how["s"], sizes, strict=True))
        return getattr(np.fft, name)(x, **given)

    return f


def flat(x: Any) -> Any:
    """The real numbers in an array, as a vector."""
    x = np.asarray(x).ravel()
    return np.concatenate([x.real, x.imag]) if x.dtype.kind == "c" else x


def back(numbers: Any, like: Any) -> Any:
    numbers = numbers[: like.size] + 1j * numbers[like.size :] if like.dtype.kind == "c" else numbers
    return numbers.reshape(like.shape)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("name", "shape", "how"), FORMS)
def test_the_pullback_is_the_transposed_matrix(name: str, shape: tuple[int, ...], how: dict[str, Any], norm: str) -> None:
    x = numbers(shape, name in REAL)
    f = plain(name, {**how, "norm": norm})
    matrix = np.stack([flat(f(back(e, x))) for e in np.eye(flat(x).size)], axis=-1)
    transform = getattr(ad.differentiable(np).fft, name)
    y, pullback = ad.vjp(lambda v: transform(v, **how, norm=norm), x)
    assert_exact(y, f(x))
    rows = np.stack([flat(pullback(back(e, y))[0]) for e in np.eye(flat(y).size)])
    assert_exact(rows, matrix)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", [*ONE, *MANY])
def test_gradients_are_those_of_torch_and_jax(name: str, norm: str) -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    shape, how = (4, 5), {"axes": (1, 0)} if name in MANY else {"axis": 0}
    how |= {"s": (3, 6)} if name in MANY else {"n": 7}
    x = numbers(shape, name in REAL)
    y, pullback = ad.vjp(lambda v: getattr(ad.namespace(v).fft, name)(v, **how, norm=norm), x)
    ct = numbers(y.shape, y.dtype.kind == "f", 1)
    (found,) = pullback(ct)

    leaf = torch.from_numpy(x).requires_grad_()
    renamed = {{"axes": "dim", "axis": "dim"}.get(k, k): v for k, v in how.items()}
    getattr(torch.fft, name)(leaf, **renamed, norm=norm).backward(torch.from_numpy(ct))
    assert_close(found, leaf.grad, rtol=1e-13, atol=1e-13)

    _, theirs = jax.vjp(lambda v: getattr(jax.numpy.fft, name)(v, **how, norm=norm), jax.numpy.asarray(x))
    # jax's pullback is the transpose, without conjugation
    assert_close(found, np.conj(np.asarray(theirs(jax.numpy.asarray(np.conj(ct)))[0])), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [*ONE, *MANY])
def test_values_on_every_library(name: str, backend: support.Backend) -> None:
    how: dict[str, Any] = {"s": (5, 2), "axes": (0, -1)} if name in MANY else {"n": 5, "axis": -2}
    x = numbers((3, 4), name in REAL)
    transform = getattr(ad.differentiable(backend.xp).fft, name)
    for norm in NORMS:
        y = transform(backend.asarray(x), **how, norm=norm)
        assert isinstance(y, ad.Variable)
        assert_close(backend.numpy(y.data), getattr(np.fft, name)(x, **how, norm=norm), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [*ONE, *MANY])
def test_single_precision_stays(name: str, backend: support.Backend) -> None:
    single = "float32" if name in REAL else "complex64"
    x = backend.asarray(numbers((4, 4), name in REAL), dtype=single)
    y, pullback = ad.vjp(lambda v: getattr(ad.namespace(v).fft, name)(v), x)
    assert kind(y).endswith("float32" if name in ("irfft", "hfft", "irfftn") else "complex64")
    assert kind(pullback(y)[0]) == kind(x)


@pytest.mark.parametrize("backend", support.params(without=("array_api_strict",)))
@pytest.mark.parametrize("name", ["fft", "ifft", "fftn", "ifftn", "irfft", "hfft", "irfftn"])
def test_real_arrays_have_real_gradients(name: str, backend: support.Backend) -> None:
    """Beyond the standard, NumPy and others transform a real array as a complex one; its gradient stays real."""
    x = backend.asarray(numbers((3, 4), True))
    transform = getattr(ad.differentiable(backend.xp).fft, name)
    y, pullback = ad.vjp(transform, x)
    ct = numbers(tuple(y.shape), kind(y).endswith("float64"), 1)
    (found,) = pullback(backend.asarray(ct))
    assert kind(found) == kind(x)
    whole = ad.vjp(transform, backend.asarray(numbers((3, 4), True) + 0j))[1](backend.asarray(ct))[0]
    assert_exact(backend.numpy(found), backend.numpy(whole).real)
    tangent = ad.jvp(transform, (x,), (x,))[1]
    assert_exact(backend.numpy(tangent), backend.numpy(y))


def test_strict_refuses_real_arrays() -> None:
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="Only complex floating-point dtypes are allowed in fft"):
        ad.differentiable(strict).fft.fft(strict.asarray([1.0, 2.0]))


def test_a_convolution_has_the_gradient_of_the_direct_one() -> None:
    x, w, ct = numbers((9,), True), numbers((4,), True, 1), numbers((12,), True, 2)

    def by_transforms(x: Any, w: Any) -> Any:
        xp = ad.namespace(x)
        return xp.fft.irfft(xp.fft.rfft(x, n=12) * xp.fft.rfft(w, n=12), n=12)

    y, pullback = ad.vjp(by_transforms, x, w)
    assert_close(y, np.convolve(x, w), rtol=1e-13, atol=1e-13)
    for found, other in zip(pullback(ct), (w, x), strict=True):
        assert_close(found, np.correlate(ct, other, mode="valid"), rtol=1e-13, atol=1e-13)


def test_the_spectrum_keeps_the_energy_in_every_mode() -> None:
    """Parseval: the Hessian of |fft(x)|^2 / 2 is n times one, whichever way it is taken, and in batches."""

    def energy(x: Any) -> Any:
        xp = ad.namespace(x)
        y = xp.fft.rfft(x, norm="ortho")
        weights = xp.asarray([1.0, 2.0, 2.0])  # of five samples
        return xp.sum(weights * xp.real(xp.conj(y) * y)) / 2

    x = numbers((5,), True)
    assert_exact(ad.grad(energy)(x), x)
    assert_exact(ad.hessian(energy)(x), np.eye(5))
    assert_exact(ad.jacfwd(ad.jacrev(energy))(x), np.eye(5))
    assert_exact(ad.vmap(ad.grad(energy))(np.stack([x, 2 * x])), np.stack([x, 2 * x]))


@pytest.mark.parametrize("name", ["fft", "ifft", "fftn", "ifftn", "rfft", "irfft"])
def test_nothing_of_the_operand_is_kept(name: str) -> None:
    assert set(TABLE[f"fft.{name}"].reverse((0,)).saves) <= {"x_shape", "x_dtype"}


def test_capture() -> None:
    x = numbers((2, 6), False)
    g = graph.capture(ad.grad(lambda v: ad.namespace(v).fft.irfftn(v, s=(4, 5), axes=(0, 1)).sum()), x)
    assert {"fft.ifftn", "fft.irfft", "fft.fftn", "fft.rfft"} <= {node.op.name for node in g.nodes}
    assert_exact(g(x), ad.grad(lambda v: ad.namespace(v).fft.irfftn(v, s=(4, 5), axes=(0, 1)).sum())(x))


@pytest.mark.parametrize("backend", support.params("dask"))
def test_chunks_do_not_matter(backend: support.Backend) -> None:
    host = numbers((4, 6), False)
    x = backend.xp.from_array(host, chunks=(3, 2))
    y, pullback = ad.vjp(lambda v: ad.namespace(v).fft.fftn(v, s=(5, 3), axes=(0, 1)), x)
    assert_exact(backend.numpy(y), np.fft.fftn(host, s=(5, 3), axes=(0, 1)))
    assert_exact(
        backend.numpy(pullback(y)[0]), ad.vjp(lambda v: ad.namespace(v).fft.fftn(v, s=(5, 3), axes=(0, 1)), host)[1](backend.numpy(y))[0]
    )


# --- shifts and frequencies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [None, 0, -1, (0, 1), (-1,)])
@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 2), (1, 6)])
def test_shifts(axes: Any, shape: tuple[int, ...], backend: support.Backend) -> None:
    x = numbers(shape, True)
    fft = ad.differentiable(backend.xp).fft
    for name, other in (("fftshift", "ifftshift"), ("ifftshift", "fftshift")):
        y, pullback = ad.vjp(lambda v, name=name: getattr(fft, name)(v, axes=axes), backend.asarray(x))
        assert_exact(backend.numpy(y), getattr(np.fft, name)(x, axes=axes))
        assert_exact(backend.numpy(pullback(y)[0]), x)  # a permutation: the transpose undoes it
        assert_exact(backend.numpy(getattr(fft, other)(y, axes=axes).data), x)


@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_frequencies(name: str, n: int, backend: support.Backend) -> None:
    make = getattr(ad.differentiable(backend.xp).fft, name)
    for options in ({}, {"d": 0.25}):
        found = make(n, **options, dtype="float64")
        assert isinstance(found, ad.Variable) and not found.requires_grad
        assert_exact(backend.numpy(found.data), getattr(np.fft, name)(n, **options))
        assert kind(make(n, **options).data) == kind(ad.differentiable(backend.xp).ones((1,)).data)
        assert kind(make(n, **options, dtype="float32").data).endswith("float32")


def test_frequencies_lie_on_the_device_asked_for() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    assert ad.differentiable(strict).fft.fftfreq(3, device=device).device == device
    assert ad.differentiable(strict).fft.rfftfreq(3, device="device1", dtype=strict.float32).device == device


def test_frequencies_belong_to_the_transformation() -> None:
    made = []
    ad.vmap(lambda x: made.append(ad.namespace(x).fft.fftfreq(4)) or x)(np.ones((2, 3)))
    with pytest.raises(ad.errors.EscapedArrayError, match="used after that transformation returned"):
        made[0] + 1


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "how", "error", "text"),
    [
        ("fft", (3,), {"norm": "none"}, ValueError, r"fft\.fft: norm is 'backward', 'ortho' or 'forward', not 'none'"),
        ("fft", (3,), {"n": 0}, ValueError, r"fft\.fft: axis 0 of an array of shape \(3,\) cannot be transformed over 0 elements"),
        ("fft", (3,), {"n": 2.5}, TypeError, r"fft\.fft: a size is an integer, not 2\.5"),
        ("irfft", (2, 1), {}, ValueError, r"fft\.irfft: axis 1 of an array of shape \(2, 1\) cannot be transformed over 0 elements"),
        ("irfft", (0,), {"n": 3}, ValueError, r"fft\.irfft: axis 0 of an array of shape \(0,\) cannot be transformed over 3 elements"),
        ("fftn", (3, 4), {"s": (2, -2), "axes": (0, 1)}, ValueError, r"fft\.fftn: axis 1 of an array of shape \(3, 4\) .* -2 elements"),
        ("fftn", (3, 4), {"s": (2, 2)}, ValueError, r"fft\.fftn: s is given without axes\. .* belong to: axes=\(-2, -1\)"),
        ("ifftn", (3, 4), {"s": (2,), "axes": (0, 1)}, ValueError, r"fft\.ifftn: 1 sizes for 2 axes"),
        ("irfftn", (3, 4), {"axes": ()}, ValueError, r"fft\.irfftn: no axis to transform, in an array of shape \(3, 4\)"),
        ("fftn", (), {}, ValueError, r"fft\.fftn: no axis to transform, in an array of shape \(\)"),
        ("fft", (3,), {"axis": 1}, AxisError, r"fft\.fft: axis 1 is out of bounds for an array of 1 dimension"),
        ("fftn", (3,), {"axes": (0, -1)}, AxisError, r"fft\.fftn: axis \(0, -1\) names an axis twice"),
        ("fftshift", (3,), {"axes": 2}, AxisError, r"fft\.fftshift: axis 2 is out of bounds"),
        ("rfft", (3,), {}, TypeError, r"fft\.rfft transforms real arrays, not complex128\. Use fft\.fft for complex ones"),
        ("rfftn", (3,), {}, TypeError, r"fft\.rfftn transforms real arrays, not complex128\. Use fft\.fftn for complex ones"),
        ("ihfft", (3,), {}, TypeError, r"fft\.ihfft transforms real arrays, not complex128\. Use fft\.ifft for complex ones"),
    ],
)
def test_refusals(name: str, shape: tuple[int, ...], how: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ad.grad(lambda x: ad.namespace(x).real(getattr(ad.namespace(x).fft, name)(x, **how)).sum())(numbers(shape, False))


def test_frequencies_refuse() -> None:
    fft = ad.differentiable(np).fft
    with pytest.raises(ValueError, match=r"fft\.fftfreq: there is no transform of 0 elements\. Pass n, 1 or more"):
        fft.fftfreq(0)
    with pytest.raises(TypeError, match=r"fft\.rfftfreq: frequencies are real floating numbers; dtype is int64"):
        fft.rfftfreq(4, dtype="int64")
