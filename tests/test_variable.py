"""Variables: backward and what surrounds it, methods and operators against NumPy, in-place changes, copies."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian, kind

import agnostic_ad as ad
from agnostic_ad.errors import GraphFreedError

X = np.asarray([0.3, -1.2, 0.7, 2.0])
RNG = np.random.default_rng(11)
M = RNG.standard_normal((3, 4))
S = RNG.standard_normal((3, 3))


def var(value: Any = X, **options: Any) -> ad.Variable:
    return ad.Variable(np.array(value), **options)


def raw(v: ad.Variable) -> Any:
    return v.detach().numpy()


# --- making one ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "dtype", "records"),
    [
        ([1.0, 2.0], "float64", True),
        ([[1, 2], [3, 4]], "int64", False),
        (3.0, "float64", True),
        (3, "int64", False),
        (True, "bool", False),
        (2j, "complex128", True),
        ((1.0, 2.0), "float64", True),
        (np.float32(2), "float32", True),
        (np.asarray([True]), "bool", False),
    ],
)
def test_what_a_variable_is_made_of(value: Any, dtype: str, records: bool) -> None:
    v = ad.Variable(value)
    assert str(v.dtype) == dtype and v.requires_grad is records and v.is_leaf and v.grad is None and v.grad_fn is None
    assert type(v.data) is np.ndarray and v.shape == np.shape(value)


def test_a_variable_holds_the_array_that_it_was_given(backend: support.Backend) -> None:
    x = backend.asarray([[1.0, 2.0, 3.0]])
    v = ad.Variable(x)
    assert v.data is x and type(v.data) is type(x)
    assert v.shape == (1, 3) and v.ndim == 2 and v.size == 3 and len(v) == 1
    assert v.dtype == x.dtype
    assert v.T.shape == v.mT.shape == (3, 1)
    assert v.requires_grad and not ad.Variable(x, requires_grad=False).requires_grad


def test_a_variable_of_a_variable_names_detach() -> None:
    with pytest.raises(TypeError, match=r"Variable already.*x\.detach\(\)"):
        ad.Variable(var())


def test_what_is_no_array_is_refused() -> None:
    for wrong in ("text", object(), [object()], ["a", "b"]):
        with pytest.raises(TypeError, match="Variable takes an array"):
            ad.Variable(wrong)
    with pytest.raises((TypeError, ValueError)):
        ad.Variable([[1.0], [1.0, 2.0]])


# --- backward ----------------------------------------------------------------------------------------------------------------------------
def test_backward_adds_into_grad(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(X))
    w = ad.Variable(backend.asarray(X + 1))
    (x * w).sum().backward()
    assert type(x.grad) is type(x.data) and kind(x.grad) == kind(x.data)
    assert_exact(backend.numpy(x.grad), X + 1)
    (x * x).sum().backward()
    assert_exact(backend.numpy(x.grad), X + 1 + 2 * X)
    assert_exact(backend.numpy(w.grad), X)
    assert_exact(backend.numpy(x.data), X)


def test_backward_with_a_gradient() -> None:
    x = var()
    (x * x).backward(np.asarray([1.0, 0.0, 2.0, 0.0]))
    assert_exact(x.grad, [0.6, 0.0, 2.8, 0.0])
    y = var(3.0)
    (y * y).backward(2.0)
    assert_exact(y.grad, 12.0)
    z = var()
    (z * 2).backward(ad.Variable(np.ones(4)))
    assert_exact(z.grad, 2 * np.ones(4))
    assert type(z.grad) is np.ndarray


def test_backward_of_one_element_of_any_shape() -> None:
    x = var([[3.0]])
    (x * x).backward()
    assert_exact(x.grad, [[6.0]])


def test_backward_of_a_leaf_itself() -> None:
    x = var(2.0)
    x.backward()
    assert_exact(x.grad, 1.0)


def test_a_variable_used_many_times() -> None:
    x = var()
    y = x
    for _ in range(5):
        y = y * x + x
    y.sum().backward()

    def f(v: Any) -> Any:
        y = v
        for _ in range(5):
            y = y * v + v
        return np.sum(y)

    assert_close(x.grad, jacobian(f, X), 1e-7, 1e-7)


def test_retain_graph() -> None:
    x = var()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert_exact(x.grad, 4 * X)
    with pytest.raises(GraphFreedError, match=r"a second time.*retain_graph=True"):
        y.backward()
    assert_exact(x.grad, 4 * X)


def test_two_losses_over_a_shared_part_need_retain_graph() -> None:
    x = var()
    h = x * x
    h.sum().backward()
    with pytest.raises(RuntimeError, match=r"multiply a second time"):
        (h * 2).sum().backward()


def test_no_leaf_shares_memory_for_its_gradient(backend: support.Backend) -> None:
    x, y = ad.Variable(backend.asarray(X)), ad.Variable(backend.asarray(X))
    (x + y).backward(ct := backend.asarray(np.ones(4)))
    assert_exact(backend.numpy(x.grad), np.ones(4))
    if backend.name == "jax":
        return  # immutable
    if backend.name != "dask":
        assert not np.shares_memory(backend.numpy(x.grad), backend.numpy(y.grad))
        assert not np.shares_memory(backend.numpy(x.grad), backend.numpy(ct))
    x.grad[0] = 7.0
    assert_exact(backend.numpy(y.grad), np.ones(4))
    assert_exact(backend.numpy(ct), np.ones(4))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: x.sum(),
        lambda x: x.mean() + x.sum(),
        lambda x: x.reshape(2, 2),
        lambda x: x[::2],
        lambda x: ad.namespace(x).concat([x, x]),
        lambda x: ad.namespace(x).broadcast_to(x, (3, 4)),
        lambda x: x + 1.0,
        lambda x: ad.namespace(x).stack([x, x * 2]),
        lambda x: x.T,
        lambda x: ad.namespace(x).flip(x),
    ],
)
def test_gradients_are_writeable_and_owned(f: Callable[[Any], Any]) -> None:
    x = var()
    y = f(x)
    ct = np.ones(y.shape)
    y.backward(ct)
    assert x.grad.flags.writeable and x.grad.shape == (4,) and x.grad.dtype == np.float64
    assert not np.shares_memory(x.grad, ct) and not np.shares_memory(x.grad, x.data)
    before = x.grad.copy()
    x.grad[...] = 0.0
    assert_exact(ct, np.ones(y.shape))
    y = f(x)
    x.grad = None
    y.backward(ct)
    assert_exact(x.grad, before)


def test_user_arrays_are_never_modified() -> None:
    a, b, ct = X.copy(), X[::-1].copy(), np.ones(4)
    x, w = ad.Variable(a), ad.Variable(b)
    for _ in range(2):
        y = x * w + x
        y[1:2] = w[:1] * x[2:3]
        y += x
        y *= 2.0
        y.backward(ct)
    assert_exact(a, X)
    assert_exact(b, X[::-1])
    assert_exact(ct, np.ones(4))


def test_accumulating_into_grad_twice_is_separate_memory() -> None:
    x = var()
    (x * 1).sum().backward()
    first = x.grad
    (x * 1).sum().backward()
    assert_exact(x.grad, 2 * np.ones(4))
    x.grad[:] = 0
    assert first is not None


def test_float32_and_complex_gradients() -> None:
    x = ad.Variable(X.astype("float32"))
    (x * 2.5 + x**2).mean().backward()
    assert x.grad.dtype == np.float32
    z = ad.Variable(np.asarray([1 + 2j]))
    (z * z.conj()).real.sum().backward()
    assert z.grad.dtype == np.complex128
    assert_exact(z.grad, [2 + 4j])


def test_mixed_dtypes_give_each_leaf_its_own() -> None:
    x, y = ad.Variable(X.astype("float32")), ad.Variable(X)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


# --- grad --------------------------------------------------------------------------------------------------------------------------------
def test_grad_may_be_set() -> None:
    x = var()
    x.grad = np.ones(4)
    (x * 1).sum().backward()
    assert_exact(x.grad, 2 * np.ones(4))
    x.grad = None
    assert x.grad is None
    (x * 3).sum().backward()
    assert_exact(x.grad, 3 * np.ones(4))
    x.grad = ad.Variable(np.zeros(4))
    assert type(x.grad) is np.ndarray


def test_a_gradient_that_was_set_is_not_written_into() -> None:
    x = var()
    mine = np.ones(4)
    x.grad = mine
    (x * 1).sum().backward()
    assert_exact(mine, np.ones(4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(np.ones(3), r"shape \(3,\)"), (np.ones(4, "float32"), "dtype float32"), ("text", "is of str")],
)
def test_grad_of_the_wrong_kind(wrong: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        var().grad = wrong


def test_requires_grad_may_be_set_on_a_leaf() -> None:
    x = var(requires_grad=False)
    assert not (x * 2).requires_grad
    x.requires_grad = True
    (x * 2).sum().backward()
    assert_exact(x.grad, 2 * np.ones(4))
    x.requires_grad = False
    assert not (x * 2).requires_grad
    y = var() * 2
    with pytest.raises(RuntimeError, match=r"leaf.*detach"):
        y.requires_grad = False
    with pytest.raises(TypeError, match=r"floating and complex.*int64"):
        var([1, 2]).requires_grad = True


def test_setting_requires_grad_again_keeps_the_gradient() -> None:
    x = var()
    (x * 2).sum().backward()
    x.requires_grad = True
    assert_exact(x.grad, 2 * np.ones(4))


def test_leaves_and_grad_fn() -> None:
    x = var()
    y = ad.namespace(x).sin(x)
    assert x.is_leaf and x.grad_fn is None
    assert not y.is_leaf and y.grad_fn is not None and "sin" in repr(y.grad_fn) and y.grad_fn.name == "sin"
    assert y.requires_grad and y.grad is None
    assert y.grad_fn.next_functions[0][0] is not None
    c = ad.Variable([1.0], requires_grad=False) * 2
    assert c.is_leaf and not c.requires_grad


def test_detach() -> None:
    x = var()
    d = x.detach()
    assert not d.requires_grad and d.is_leaf and d.data is x.data
    y = x * x.detach()
    y.sum().backward()
    assert_exact(x.grad, X)
    x.detach()[0] = 9.0  # changes no memory of others'
    assert_exact(x.data, X)


# --- hooks -------------------------------------------------------------------------------------------------------------------------------------
def test_hooks_see_and_replace_gradients() -> None:
    x = var()
    seen = []
    y = x * 2
    y.register_hook(lambda g: seen.append(np.array(g)))
    handle = y.register_hook(lambda g: g * 10)
    (y * 3).sum().backward()
    assert_exact(seen[0], 3 * np.ones(4))
    assert_exact(x.grad, 60 * np.ones(4))
    handle.remove()
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert_exact(x.grad, 2 * np.ones(4))


def test_hooks_on_leaves() -> None:
    x = var()
    handle = x.register_hook(lambda g: g * 2)
    (x * x).sum().backward()
    assert_exact(x.grad, 4 * X)
    handle.remove()
    x.grad = None
    (x * x).sum().backward()
    assert_exact(x.grad, 2 * X)


def test_a_hook_on_a_leaf_runs_once_a_pass_with_the_whole_gradient() -> None:
    x = var()
    seen = []
    x.register_hook(lambda g: seen.append(np.array(g)))
    (x * 2 + x * 3).sum().backward()
    assert len(seen) == 1
    assert_exact(seen[0], 5 * np.ones(4))


def test_hooks_run_in_gradients_too() -> None:
    x = var()
    y = x * x
    y.register_hook(lambda g: g * 2)
    assert_exact(ad.gradients(y.sum(), x)[0], 4 * X)
    z = var(2.0)
    h = z * z
    h.register_hook(lambda g: g * 3)
    (g,) = ad.gradients(h, z, create_graph=True)
    assert isinstance(g, ad.Variable)
    assert_exact(ad.gradients(g, z)[0], 6.0)


def test_a_hook_of_the_wrong_shape() -> None:
    x = var()
    x.register_hook(lambda g: g[:2])
    with pytest.raises(ValueError, match=r"hook returned shape \(2,\).*\(4,\)"):
        (x * 2).sum().backward()


def test_hooks_need_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        var(requires_grad=False).register_hook(print)
    with pytest.raises(RuntimeError, match="does not require grad"):
        var(requires_grad=False).retain_grad()


def test_retain_grad() -> None:
    x = var()
    y = x * x
    z = y * 3
    y.retain_grad()
    z.sum().backward()
    assert_exact(y.grad, 3 * np.ones(4))
    assert_exact(x.grad, 6 * X)
    assert z.grad is None
    x.retain_grad()  # nothing to do on a leaf
    h = x * 1
    h.retain_grad()
    (h + x).backward(ct := np.ones(4))
    assert not np.shares_memory(h.grad, ct) and not np.shares_memory(h.grad, x.grad)


# --- out to Python -----------------------------------------------------------------------------------------------------------------------------
def test_numbers_and_lists() -> None:
    v = var(2.5)
    assert float(v) == 2.5 and int(v) == 2 and complex(v) == 2.5 + 0j and bool(v) is True and v.item() == 2.5
    assert isinstance(v.item(), float) and isinstance(v.tolist(), float)
    assert var([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    assert var([3.0]).item() == 3.0
    assert operator.index(ad.Variable(3)) == 3
    assert list(range(5))[ad.Variable(2)] == 2
    assert ad.Variable([1, 2]).tolist() == [1, 2] and type(ad.Variable(3).item()) is int
    assert bool(var(1.0) > 0) and not (var(1.0) > 2)
    with pytest.raises(ValueError, match="truth value"):
        bool(var())
    with pytest.raises((TypeError, ValueError)):
        float(var())
    with pytest.raises(ValueError):
        var().item()


def test_len_and_iteration() -> None:
    v = var(M)
    assert len(v) == 3
    rows = list(v)
    assert len(rows) == 3 and all(isinstance(r, ad.Variable) and r.requires_grad for r in rows)
    (rows[0] * rows[2]).sum().backward()
    assert_exact(v.grad, np.stack([M[2], np.zeros(4), M[0]]))
    a, b = var([1.0, 2.0])
    assert float(a) == 1.0 and float(b) == 2.0
    with pytest.raises(TypeError, match="0-d"):
        len(var(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(var(1.0))


def test_text() -> None:
    assert repr(var([1.0])) == "Variable(array([1.]), requires_grad=True)"
    assert repr(ad.Variable([1])) == "Variable(array([1]))"
    assert repr(ad.namespace(var()).sin(var([0.0]))) == "Variable(array([0.]), grad_fn=<sin>)"
    assert f"{var(3.14159):.2f}" == "3.14" and f"{ad.Variable(3):d}" == "3" and f"{var(2.5)}" == str(var(2.5))
    assert "%.1f" % var(2.25) == "2.2"  # noqa: UP031
    with pytest.raises(TypeError):
        f"{var():.2f}"


def test_numpy_of_detached() -> None:
    assert type(var().detach().numpy()) is np.ndarray
    assert_exact(np.asarray(var().detach()), X)
    assert_exact(np.asarray(var(requires_grad=False), dtype="float32"), X.astype("float32"))
    assert_exact(np.asarray(ad.Variable([1, 2])), [1, 2])


def test_numpy_from_every_library(backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray(X), requires_grad=False)
    assert type(v.numpy()) is np.ndarray
    assert_exact(v.numpy(), X)
    assert ad.Variable(backend.asarray([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]
    assert float(ad.Variable(backend.asarray(2.0))) == 2.0


def test_deepcopy_and_pickle(backend: support.Backend) -> None:
    for again in (copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))):
        for flag in (True, False):
            v = ad.Variable(backend.asarray(X), requires_grad=flag)
            w = again(v)
            assert w is not v and w.requires_grad is flag and w.is_leaf and type(w.data) is type(v.data)
            assert_exact(backend.numpy(w.data), X)
            if flag:
                (w * w).sum().backward()
                assert_exact(backend.numpy(w.grad), 2 * X)
                assert v.grad is None


def test_deepcopy_copies_memory_and_keeps_identity() -> None:
    v = var()
    pair = copy.deepcopy([v, v])
    assert pair[0] is pair[1] and pair[0] is not v
    assert not np.shares_memory(pair[0].data, v.data)


def test_deepcopy_keeps_the_gradient_as_in_torch() -> None:
    v = var()
    (v * 2).sum().backward()
    w = copy.deepcopy(v)
    assert w.grad is not None and not np.shares_memory(w.grad, v.grad)
    assert_exact(w.grad, v.grad)


def test_copies_of_results_name_detach() -> None:
    y = var() * 2
    with pytest.raises(RuntimeError, match=r"leaf.*detach"):
        copy.deepcopy(y)
    with pytest.raises(RuntimeError, match=r"leaf.*detach"):
        pickle.dumps(y)


def test_variables_are_hashable_by_identity_and_compare_by_element() -> None:
    a, b = var(), var()
    assert len({a, b, a}) == 2
    assert isinstance(a == b, ad.Variable) and raw(a == b).all()


# --- operators -------------------------------------------------------------------------------------------------------------------------------
BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.matmul,
    operator.mod,
    operator.floordiv,
]
POSITIVE = np.asarray([0.55, 1.6, 2.7])


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("other", ["variable", "array", "number", "reflected array", "reflected number", "itself"])
def test_binary_operators(op: Callable[..., Any], other: str) -> None:
    if op is operator.matmul and "number" in other:
        return
    b = np.asarray([2.0, 0.7, 1.3])
    shapes: dict[str, Callable[[Any], Any]] = {
        "variable": lambda x: op(x, ad.Variable(b) if isinstance(x, ad.Variable) else b),
        "array": lambda x: op(x, b),
        "number": lambda x: op(x, 3.0),
        "reflected array": lambda x: op(b, x),
        "reflected number": lambda x: op(3.0, x),
        "itself": lambda x: op(x, x),
    }
    f = shapes[other]
    x = var(POSITIVE)
    y = f(x)
    assert isinstance(y, ad.Variable)
    assert_exact(raw(y), f(POSITIVE))
    if y.requires_grad:
        y.sum().backward()
    assert_close(np.zeros(3) if x.grad is None else x.grad, jacobian(lambda v: np.sum(f(v)), POSITIVE))


@pytest.mark.parametrize("op", [operator.neg, operator.pos, abs])
def test_unary_operators(op: Callable[[Any], Any]) -> None:
    x = var()
    y = op(x)
    assert_exact(raw(y), op(X))
    y.sum().backward()
    assert_close(x.grad, jacobian(lambda v: np.sum(op(v)), X))


@pytest.mark.parametrize("op", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_comparisons(op: Callable[..., Any]) -> None:
    for other in (0.3, X[::-1].copy(), var(X[::-1])):
        y = op(var(), other)
        assert isinstance(y, ad.Variable) and not y.requires_grad and y.dtype == np.bool_
        np.testing.assert_array_equal(raw(y), op(X, raw(other) if isinstance(other, ad.Variable) else other))
    np.testing.assert_array_equal(raw(op(X[::-1].copy(), var())), op(X[::-1], X))


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift])
def test_integer_operators(op: Callable[..., Any]) -> None:
    a, b = np.asarray([6, 5, 4]), np.asarray([3, 1, 2])
    for got in (op(ad.Variable(a), b), op(a, ad.Variable(b)), op(ad.Variable(a), ad.Variable(b))):
        np.testing.assert_array_equal(raw(got), op(a, b))
    np.testing.assert_array_equal(raw(op(ad.Variable(a), 2)), op(a, 2))
    np.testing.assert_array_equal(raw(op(2, ad.Variable(b))), op(2, b))
    np.testing.assert_array_equal(raw(~ad.Variable(a)), ~a)


@pytest.mark.parametrize("shapes", [((3, 1), (4,)), ((4,), (3, 4)), ((), (2, 2)), ((2, 1, 3), (5, 1)), ((1,), (0,))])
def test_broadcasting_gradients(shapes: Any) -> None:
    a, b = (RNG.uniform(0.5, 1.5, s) for s in shapes)
    x, y = ad.Variable(a), ad.Variable(b)
    (x / y * x).sum().backward()
    assert x.grad.shape == a.shape and y.grad.shape == b.shape
    assert_close(x.grad, jacobian(lambda v: np.sum(v / b * v), a))
    assert_close(y.grad, jacobian(lambda v: np.sum(a / v * a), b))


def test_a_list_or_text_beside_a_variable_is_an_error() -> None:
    for wrong in ("text", object()):
        with pytest.raises(TypeError):
            var() + wrong
        with pytest.raises(TypeError):
            wrong * var()


# --- methods -----------------------------------------------------------------------------------------------------------------------------------
def test_copy_is_not_reached_by_later_changes() -> None:
    x = var()
    y = x * 2
    z = y.copy()
    y[0] = 100.0
    assert_exact(raw(z), 2 * X)


def test_to() -> None:
    x = var()
    y = x.to("float32")
    assert y.dtype == np.float32
    (y * 2).sum().backward()
    assert x.grad.dtype == np.float64
    assert x.to(np.float64).dtype == np.float64 and x.to("cpu").device == "cpu"


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "jax"))
def test_to_another_library_and_back(backend: support.Backend) -> None:
    x = var()
    y = x.to(backend.xp)
    assert type(y.data) is type(backend.asarray(X)) and kind(y.data) == kind(backend.asarray(X))
    (y * y).sum().backward()
    assert type(x.grad) is np.ndarray
    assert_exact(x.grad, 2 * X)
    back = y.detach().to(np)
    assert type(back.data) is np.ndarray


# --- in place -----------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow])
def test_in_place_operators(op: Callable[..., Any]) -> None:
    b = np.asarray([2.0, 0.7, 1.3])
    x = var(POSITIVE)
    y = x * 2
    same = y
    y = op(y, x * b)
    assert y is same
    y.sum().backward()
    assert_close(x.grad, jacobian(lambda v: np.sum(op(v * 2, v * b)), POSITIVE))


def test_in_place_keeps_what_was_saved() -> None:
    x = var()
    y = x * x
    z = y * y  # saves y
    y += 100.0
    y[0] = 5.0
    z.sum().backward()
    assert_exact(x.grad, 4 * X**3)


def test_in_place_refuses_other_shapes_and_dtypes() -> None:
    y = var([1.0]) * 1
    with pytest.raises(ValueError, match=r"in-place.*shape \(1,\) to \(2,\)"):
        y += np.ones(2)
    with pytest.raises(TypeError, match=r"in-place.*complex128.*float64"):
        y += 1j
    n = ad.Variable([1, 2])
    with pytest.raises(TypeError, match=r"in-place.*float64.*int64"):
        n += 0.5
    f = ad.Variable(np.ones(2, "float32"), requires_grad=False)
    f += np.ones(2)
    assert f.dtype == np.float32


SETS: list[tuple[Any, Any]] = [
    (0, 5.0),
    (-1, 5.0),
    (slice(None), 2.0),
    (slice(1, 3), np.asarray([[1.0], [2.0]])),
    ((slice(None), 1), np.arange(3.0)),
    ((..., slice(None, None, 2)), 7.0),
    ([0, 2], 3.0),
    (np.asarray([2, 0]), np.ones((2, 4))),
    (M > 0, -1.0),
    ((np.asarray([0, 1]), np.asarray([3, 3])), np.asarray([8.0, 9.0])),
    ((slice(None, None, -1), [1, 2]), np.ones((3, 2))),
    ((0, 0), 1.0),
]


@pytest.mark.parametrize("position", range(len(SETS)))
def test_setitem(position: int) -> None:
    key, value = SETS[position]
    x = var(M)
    v = ad.Variable(np.asarray(value, dtype=float))
    y = x * 3
    y[key] = v * 2
    want = M * 3
    want[key] = np.asarray(value) * 2
    assert_exact(raw(y), want)
    weights = np.cos(np.arange(12.0)).reshape(3, 4) + 1.5
    (y * weights).sum().backward()

    def f(a: Any, b: Any) -> Any:
        out = a * 3
        out[key] = b * 2
        return np.sum(out * weights)

    assert_close(x.grad, jacobian(lambda a: f(a, np.asarray(value)), M))
    assert_close(v.grad, jacobian(lambda b: f(M, b), np.asarray(value, dtype=float)))


def test_setitem_on_what_does_not_require_grad() -> None:
    x = var()
    y = ad.differentiable(np).zeros(4)
    assert not y.requires_grad
    for i in range(4):
        y[i] = x[i] * i
    assert y.requires_grad
    y.sum().backward()
    assert_exact(x.grad, np.arange(4.0))


def test_getitem_then_setitem_through_a_loop() -> None:
    x = var()
    y = x + 0
    for i in range(1, 4):
        y[i] = y[i - 1] * y[i]
    y[-1].backward()
    assert_exact(x.grad, [np.prod(np.delete(X, i)) for i in range(4)])


@pytest.mark.parametrize("change", ["setitem", "iadd", "imul"])
def test_in_place_on_a_leaf_is_an_error(change: str) -> None:
    x = var()
    with pytest.raises(RuntimeError, match=r"leaf Variable that requires grad.*no_grad.*copy"):
        if change == "setitem":
            x[0] = 1.0
        elif change == "iadd":
            x += 1.0
        else:
            x *= 2.0
    assert_exact(x.data, X)
    assert x.is_leaf


def test_in_place_on_a_leaf_inside_no_grad_updates_it() -> None:
    x = var()
    (x * x).sum().backward()
    with ad.no_grad():
        x -= 0.1 * x.grad
        x[0] = 5.0
    assert x.is_leaf and x.requires_grad
    assert_exact(x.data, np.concatenate([[5.0], (X - 0.2 * X)[1:]]))
    assert_exact(x.grad, 2 * X)
    x.grad = None
    (x * x).sum().backward()
    assert_exact(x.grad, 2 * x.data)


def test_an_update_does_not_change_what_an_earlier_graph_saved() -> None:
    x = var()
    y = (x * x).sum()
    with ad.no_grad():
        x += 100.0
    y.backward()
    assert_exact(x.grad, 2 * X)


def test_in_place_on_a_leaf_that_does_not_require_grad() -> None:
    x = var(requires_grad=False)
    x[0] = 9.0
    x += 1.0
    assert x.is_leaf and not x.requires_grad
    assert_exact(x.data, np.concatenate([[10.0], X[1:] + 1]))


def test_in_place_with_a_result_makes_a_constant_a_result() -> None:
    x, y = var(), var(requires_grad=False)
    y += x * 2
    assert y.requires_grad and not y.is_leaf
    y.sum().backward()
    assert_exact(x.grad, 2 * np.ones(4))


VIEWS: dict[str, Callable[[Any], Any]] = {
    "row": lambda y: y[0],
    "slices": lambda y: y[:, 1:],
    "reshape": lambda y: y.reshape(12),
    "T": lambda y: y.T,
    "swapaxes": lambda y: y.swapaxes(0, 1),
    "a view of a view": lambda y: y[:2][0],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("change", ["setitem", "iadd"])
def test_mutation_through_a_view_reaches_its_base_or_raises(view: str, change: str) -> None:
    def run(y: Any) -> Any:
        part = VIEWS[view](y)
        if change == "setitem":
            part[1] = 100.0
        else:
            part += 100.0
        return y

    x = var(M)
    try:
        y = run(x * 1)
    except (RuntimeError, TypeError, NotImplementedError):
        return
    assert_exact(raw(y), run(M.copy()))
    (y * M).sum().backward()
    assert_close(x.grad, jacobian(lambda m: np.sum(run(m * 1) * M), M))


def test_in_place_inside_no_grad_keeps_the_history_of_a_result_as_in_torch() -> None:
    x = var()
    y = x * x
    with ad.no_grad():
        y += 5.0
        y[0] = 0.0
    assert y.requires_grad and not y.is_leaf
    y.sum().backward()
    assert_exact(x.grad, 2 * X)


def test_augmented_item_assignment() -> None:
    x = var(M)
    y = x * 1
    y[0] += 2.0
    y[:, 1] *= x[:, 0]
    want = M.copy()
    want[0] += 2.0
    want[:, 1] *= M[:, 0]
    assert_exact(raw(y), want)
    y.sum().backward()

    def f(a: Any) -> Any:
        out = a * 1
        out[0] += 2.0
        out[:, 1] *= a[:, 0]
        return np.sum(out)

    assert_close(x.grad, jacobian(f, M))


# --- creation, namespaces --------------------------------------------------------------------------------------------------------------------------
def test_the_differentiable_namespace_gives_variables(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    z = xp.zeros((2,))
    assert isinstance(z, ad.Variable) and not z.requires_grad
    assert type(z.data) is type(backend.asarray(0.0))
    v = ad.Variable(backend.asarray(X))
    assert ad.namespace(v) == v.__array_namespace__() == xp
    assert isinstance(xp.sin(backend.asarray(X)), ad.Variable)
    assert ad.differentiable(xp) is not None


def test_namespaces_copy_and_pickle() -> None:
    xp = ad.differentiable(np)
    assert pickle.loads(pickle.dumps(xp)) == xp and copy.deepcopy(xp) == xp and hash(copy.copy(xp)) == hash(xp)
    for version in ("2021.12", "2024.12", None):
        assert var().__array_namespace__(api_version=version) == xp
    assert isinstance(xp.__name__, str)
