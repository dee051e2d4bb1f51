"""``ad.einsum``: the whole of NumPy's grammar, on every library, in every transformation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, jacobian

import agnostic_ad as ad
from agnostic_ad.ops.einsum import parse

EQUATIONS = [
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij,jk->ki", [(2, 3), (3, 4)]),
    ("ba", [(2, 3)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iij->ji", [(2, 2, 3)]),
    ("ijij", [(2, 3, 2, 3)]),
    ("iii->i", [(2, 2, 2)]),
    ("ij->", [(2, 3)]),
    ("i,i", [(3,), (3,)]),
    ("i,j", [(2,), (3,)]),
    ("i,j->ji", [(2,), (3,)]),
    ("i,ij,j", [(2,), (2, 3), (3,)]),
    ("ij,jk,kl,lm->im", [(2, 3), (3, 4), (4, 2), (2, 3)]),
    ("ij,ij,ij->i", [(2, 3), (2, 3), (2, 3)]),
    ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
    ("...ij,...jk->...ik", [(2, 2, 3), (3, 2)]),
    ("...ij,...jk", [(4, 1, 2, 3), (2, 3, 2)]),
    ("i...->...", [(2, 3, 2)]),
    ("...", [(2, 3)]),
    ("...,...", [(2, 3), (3,)]),
    ("i...,...i->...", [(2, 3), (3, 2)]),
    ("...i->i...", [(2, 3, 4)]),
    ("i...i->...", [(2, 3, 2)]),
    (" i j , j k -> i k ", [(2, 3), (3, 2)]),
    ("ij,ij->ij", [(2, 1), (2, 3)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]),
    ("Zz,za", [(2, 3), (3, 2)]),
    (",", [(), ()]),
    (",ij->ji", [(), (2, 3)]),
    ("ijk,jil->kl", [(2, 3, 2), (3, 2, 2)]),
    ("ea,fb,abcd,gc,hd->efgh", [(2, 2)] * 2 + [(2, 2, 2, 2)] + [(2, 2)] * 2),
    ("ij,jk->ik", [(2, 0), (0, 3)]),
    ("ij->j", [(0, 3)]),
]
NAMES = [f"{e} {s}" for e, s in EQUATIONS]


def operands(shapes: Any, kind: str = "f") -> list[Any]:
    rng = np.random.default_rng(3)
    found = [np.asarray(rng.normal(size=s)) for s in shapes]
    return [x + 1j * rng.normal(size=x.shape) for x in found] if kind == "c" else found


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=NAMES)
@pytest.mark.parametrize("backend", support.params(without=("jax", "dask")))
def test_values(equation: str, shapes: Any, backend: support.Backend) -> None:
    arrays = operands(shapes)
    want = np.einsum(equation, *arrays)
    raw = [backend.asarray(x) for x in arrays]
    y = ad.einsum(equation, *map(ad.Variable, raw))
    assert np.allclose(backend.numpy(y.data), want, rtol=1e-12, atol=1e-13) and tuple(y.shape) == want.shape
    assert np.allclose(backend.numpy(ad.einsum(equation, *raw)), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", support.params("jax", "dask"))
def test_values_on_libraries_that_trace(backend: support.Backend) -> None:
    for equation, shapes in [
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("...ii->...", [(2, 3, 3)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
    ]:
        arrays = operands(shapes)
        y = ad.einsum(equation, *(ad.Variable(backend.asarray(x)) for x in arrays))
        assert np.allclose(backend.numpy(y.data), np.einsum(equation, *arrays))


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=NAMES)
def test_derivatives(equation: str, shapes: Any) -> None:
    arrays = operands(shapes)
    ends = np.cumsum([0, *(x.size for x in arrays)])

    def f(x: Any) -> Any:
        return ad.einsum(equation, *(x[a:b].reshape(a_.shape) for a, b, a_ in zip(ends, ends[1:], arrays, strict=False)))

    x = np.concatenate([a.ravel() for a in arrays])
    want = jacobian(lambda x: np.asarray(f(x)), x)
    assert_close(ad.jacrev(f)(x), want)
    assert_close(ad.jacfwd(f)(x), want)
    if want.size:
        g = ad.grad(lambda x: (f(x) ** 2).sum())
        assert_close(ad.jacfwd(g)(x), jacobian(g, x), rtol=1e-7, atol=1e-7)
        assert_close(ad.vmap(f)(np.stack([x, 2 * x])), np.stack([f(x), f(2 * x)]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("equation", "shapes"), [("ij,jk->ik", [(2, 3), (3, 2)]), ("ii,i", [(2, 2), (2,)]), ("i,i,i->", [(2,)] * 3)])
def test_complex_operands_have_adjoints(equation: str, shapes: Any) -> None:
    arrays = operands(shapes, "c")
    y, pullback = ad.vjp(lambda *a: ad.einsum(equation, *a), *arrays)
    ct = np.asarray(operands([y.shape], "c")[0])
    for i, (x, back) in enumerate(zip(arrays, pullback(ct), strict=True)):
        t = np.asarray(operands([(2, *x.shape)], "c")[0][1])
        forward = np.einsum(equation, *(t if j == i else a for j, a in enumerate(arrays)))
        assert_close(np.sum(np.real(np.conj(ct) * forward)), np.sum(np.real(np.conj(back) * t)), rtol=1e-12)


def test_operands_are_promoted_before_anything_is_summed() -> None:
    mask, weights = np.asarray([[True, True, False], [True, True, True]]), np.asarray([1.0, 2.0])
    for arrays in ([mask, weights], [mask.astype(np.int8), weights], [mask, mask[:, 0]]):
        want = np.einsum("ab,a->", *arrays)
        y = ad.einsum("ab,a->", *map(ad.Variable, arrays))
        assert y.dtype == want.dtype
        assert_close(y.data, want)


def test_interleaved_operands() -> None:
    a, b = operands([(2, 3), (3, 4)])
    for axes in ([[0, 1], [1, 2]], [[0, 1], [1, 2], [2, 0]], [[7, 30], [30, 2], [7, 2]]):
        out = axes[2:]
        want = np.einsum(a, axes[0], b, axes[1], *out)
        assert_close(ad.einsum(ad.Variable(a), axes[0], ad.Variable(b), axes[1], *out), want, rtol=1e-13)
    assert_close(ad.einsum(ad.Variable(a), [Ellipsis, 1], [1, Ellipsis]), a.T)


@pytest.mark.parametrize(
    ("equation", "shapes", "said"),
    [
        ("ij,jk", [(2, 3)], "names 2 operands, 1 were given"),
        ("ij", [(2, 3, 4)], "'ij' in 'ij' does not name the axes of an operand of 3 dimensions"),
        ("i...j", [(2,)], "does not name the axes of an operand of 1 dimensions"),
        ("ij,jk->ik", [(2, 3), (4, 5)], r"axis 'j' has sizes 3 and 4 in 'ij,jk->ik'; shapes \(2, 3\), \(4, 5\)"),
        ("...i,...i", [(2, 3), (4, 3)], "an axis of the ellipsis has sizes 2 and 4"),
        ("ij->ik", [(2, 3)], "must name axes of the operands, each once"),
        ("ij->ii", [(2, 3)], "must name axes of the operands, each once"),
        ("...i->i", [(2, 3)], "must hold the ellipsis, which stands for 1 axes"),
        ("i.j->i", [(2, 3)], "does not name the axes"),
    ],
)
def test_what_does_not_fit_is_refused(equation: str, shapes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ad.einsum(equation, *map(ad.Variable, operands(shapes)))


def test_pairs_are_multiplied_in_the_cheapest_order() -> None:
    """A chain of matrices that ends in a vector is never multiplied from the left: the largest array made is the largest operand."""
    chain = [ad.Variable(np.ones((50, 50))) for _ in range(3)]
    v = ad.Variable(np.ones(50))
    y = ad.einsum("ij,jk,kl,l->i", *chain, v)
    sizes, todo = [], [y.grad_fn]
    while todo:
        node = todo.pop()
        sizes += [np.size(x) for x in node.saved or () if isinstance(x, np.ndarray)]
        todo += [p for p in node.ancestors() if p is not None]
    products = sorted(sizes)[:3]
    assert products == [50, 50, 50] and max(sizes) == 2500
    assert_close(y.data, np.full(50, 50.0**3))


def test_labels_beyond_the_alphabet() -> None:
    """opt_einsum writes contractions of many axes with letters of other alphabets."""
    assert parse("\u0101\u0102,\u0102->\u0101", [(2, 3), (3,)]).output == ("\u0101",)


def test_opt_einsum_finds_the_functions() -> None:
    opt_einsum = pytest.importorskip("opt_einsum")
    arrays = operands([(2, 3), (3, 4), (4, 2)])
    vs = [ad.Variable(x) for x in arrays]
    for equation in ("ij,jk,ki->", "ij,jk,kl->il"):
        assert_close(opt_einsum.contract(equation, *vs), np.einsum(equation, *arrays), rtol=1e-12)
    opt_einsum.contract("ij,jk,kl->", *vs).backward()
    assert_close(vs[0].grad, np.broadcast_to((arrays[1] @ arrays[2]).sum(1), (2, 3)), rtol=1e-12)


def test_tensordot_and_transpose() -> None:
    a, b = operands([(2, 3), (3, 4)])
    assert_close(ad.tensordot(ad.Variable(a), ad.Variable(b), 1), a @ b)
    assert_close(ad.tensordot(a, b, axes=([1], [0])), a @ b)
    assert_close(ad.transpose(ad.Variable(a)), a.T)
    assert_close(ad.transpose(a, (1, 0)), a.T)
