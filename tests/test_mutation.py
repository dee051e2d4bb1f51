"""In-place changes and views: programs of them, made at random, do what they do in NumPy, and have the derivatives that differences say."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError

X = np.asarray([0.3, -1.2, 0.7, 1.9])
M = np.arange(12.0).reshape(3, 4) / 7 - 0.6


def raw(v: Any) -> Any:
    """The values, whatever v carries."""
    while isinstance(v, ad.Variable):
        v = v.data
    return v


def host(v: Any) -> Any:
    """The values of a Variable over any library, in NumPy."""
    return v.detach().numpy()


# --- programs made at random ------------------------------------------------------------------------------------------------------------
Step = Callable[[list[Any], Any], None]
IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


def make_key(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    key: list[Any] = []
    for n in shape[: rng.integers(0, len(shape) + 1)]:
        kind = rng.integers(0, 5)
        if kind == 0 and n:
            key.append(int(rng.integers(-n, n)))
        elif kind == 1:
            key.append(slice(None, None, int(rng.choice([-2, -1, 2]))))
        elif kind == 2:
            key.append(slice(int(rng.integers(0, 2)), None))
        else:
            key.append(slice(None))
    if rng.random() < 0.2:
        key.insert(int(rng.integers(0, len(key) + 1)), None)
    if rng.random() < 0.3:
        key.insert(int(rng.integers(0, len(key) + 1)), Ellipsis)
    return tuple(key)


def factors(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    ways = [(size,), (1, size), (size, 1), *((a, size // a) for a in (2, 3, 4) if size % a == 0)]
    return tuple(ways[rng.integers(0, len(ways))])


def make_view(rng: np.random.Generator, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    kind = rng.integers(0, 8)
    if kind < 3:
        key = make_key(rng, shape)
        return lambda v: v[key]
    if kind == 3 and np.prod(shape):
        to = factors(rng, int(np.prod(shape)))
        return lambda v: v.reshape(to)
    if kind == 4 and len(shape) > 1:
        return lambda v: v.swapaxes(0, -1)
    return (lambda v: v.T, lambda v: v.ravel(), lambda v: v.squeeze(), lambda v: v.reshape(-1))[kind % 4]


def make_change(rng: np.random.Generator, shape: tuple[int, ...], other: int) -> Callable[[Any, list[Any], Any], Any]:
    """Give a function of (array, all arrays, namespace) that changes the array in place and gives what stands in its place."""
    kind, number = rng.integers(0, 6), float(rng.uniform(0.5, 1.5))

    def value(arrays: list[Any], xp: Any) -> Any:  # of another array, so that derivatives cross
        return xp.sin(xp.sum(arrays[other]) / 12) + number

    if kind < 2 or not shape:
        op = IN_PLACE[rng.integers(0, len(IN_PLACE))]
        return lambda v, arrays, xp: op(v, number if kind == 0 else value(arrays, xp) + 1)
    if kind == 2:
        return lambda v, arrays, xp: operator.iadd(v, xp.sin(v))

    picked = [int(i) for i in rng.integers(0, shape[0], 3)] if shape[0] else []
    key = (picked if picked and kind == 3 else np.arange(shape[0]) % 2 == 0) if kind in (3, 4) else make_key(rng, shape)

    def change(v: Any, arrays: list[Any], xp: Any) -> Any:
        if isinstance(key, tuple) and rng_add:
            v[key] += value(arrays, xp)
        else:
            v[key] = value(arrays, xp)
        return v

    rng_add = bool(rng.random() < 0.5)
    return change


def make_program(seed: int, steps: int = 9, *, orders: bool = False) -> list[tuple[str, int, Any]]:
    """Make a program; ``orders``: whether results may lie in memory otherwise than row by row."""
    rng = np.random.default_rng(seed)
    arrays: list[Any] = [M.copy()]
    program: list[tuple[str, int, Any]] = []
    for _ in range(steps):
        place, kind = int(rng.integers(0, len(arrays))), rng.random()
        shape = np.shape(arrays[place])
        if kind < 0.4 and not isinstance(arrays[place], np.generic):  # NumPy's scalars have no views; here they are 0-d arrays, which do
            step = ("view", place, make_view(rng, shape))
        elif kind < 0.5:
            step = ("compute", place, (lambda v, xp: xp.cos(v) + v) if orders else (lambda v, xp: (xp.cos(v) + v).copy()))
        else:
            step = ("change", place, make_change(rng, shape, int(rng.integers(0, len(arrays)))))
        program.append(step)
        do(step, arrays, np)
    return program


def do(step: tuple[str, int, Any], arrays: list[Any], xp: Any) -> None:
    kind, place, f = step
    if kind == "view":
        arrays.append(f(arrays[place]))
    elif kind == "compute":
        arrays.append(f(arrays[place], xp))
    else:
        arrays[place] = f(arrays[place], arrays, xp)  # NumPy's scalars do not change, they are replaced


def loss(arrays: list[Any], xp: Any) -> Any:
    total: Any = 0.0
    for k, v in enumerate(arrays):
        total = total + xp.sum(xp.sin(v)) * (1.0 + 0.3 * k)
    return total


def run(program: list[tuple[str, int, Any]], x: Any, xp: Any) -> list[Any]:
    arrays = [x]
    for step in program:
        do(step, arrays, xp)
    return arrays


def in_numpy(program: list[tuple[str, int, Any]]) -> Callable[[Any], Any]:
    return lambda m: loss(run(program, np.array(m), np), np)


def gradient(f: Callable[[Any], Any], x: Any) -> Any:
    """The gradient of an analytic function by differences along the imaginary axis, which lose no digits however small the step."""
    steps = np.eye(x.size).reshape(x.size, *x.shape) * 1e-30j
    return np.asarray([np.imag(f(x + step)) / 1e-30 for step in steps]).reshape(x.shape)


CASES = {"numpy": 200, "array_api_strict": 60, "torch": 60, "jax": 5, "dask": 5}


@pytest.mark.parametrize("backend", support.params("numpy", "array_api_strict", "torch", "jax", "dask"))
def test_programs_made_at_random(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    for seed in range(CASES[backend.name]):
        program = make_program(seed)
        want = run(program, M.copy(), np)
        x = ad.Variable(backend.asarray(M))
        got = run(program, x * 1, xp)
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            assert np.shape(w) == g.shape, (seed, k)
            np.testing.assert_allclose(host(g), w, rtol=1e-12, atol=1e-12, err_msg=f"program {seed}, array {k}")
        loss(got, xp).backward()
        np.testing.assert_allclose(
            np.zeros(M.shape) if x.grad is None else backend.numpy(x.grad),
            gradient(in_numpy(program), M),
            rtol=1e-11,
            atol=1e-11,
            err_msg=f"program {seed}",
        )


def test_programs_whose_arrays_lie_in_any_order() -> None:
    # over NumPy, what is a view is decided as NumPy does, by the layout in memory
    for seed in range(1000, 1150):
        program = make_program(seed, 12, orders=True)
        for k, (g, w) in enumerate(zip(run(program, ad.Variable(M) * 1, ad.differentiable(np)), run(program, M.copy(), np), strict=True)):
            np.testing.assert_allclose(raw(g), w, rtol=1e-12, atol=1e-12, err_msg=f"program {seed}, array {k}")


@pytest.mark.parametrize("how", ["grad", "jvp", "vmap", "nested"])
def test_programs_inside_transformations(how: str) -> None:
    for seed in range(2000, 2025):
        program = make_program(seed)

        def f(m: Any, program: Any = program) -> Any:
            xp = ad.namespace(m)
            return loss(run(program, xp.asarray(m, copy=True), xp), xp)

        if how == "vmap":
            batch = np.stack([M, M * 0.7])
            assert_close(ad.vmap(f)(batch), [in_numpy(program)(m) for m in batch], 1e-12, 1e-12)
            continue
        want = gradient(in_numpy(program), M)
        if how == "grad":
            assert_close(ad.grad(f)(M), want, 1e-11, 1e-11)
        elif how == "jvp":
            assert_close(ad.jvp(f, (M,), (np.cos(M),))[1], np.sum(want * np.cos(M)), 1e-11, 1e-11)
        else:
            second = ad.jvp(ad.grad(f), (M,), (np.cos(M),))[1]
            _, pull = ad.vjp(f, M + 1e-30j * np.cos(M))  # of a holomorphic function: the conjugate of its derivative
            assert_close(second, -np.imag(pull(np.ones((), complex))[0]) / 1e-30, 1e-10, 1e-10)


# --- every operator ---------------------------------------------------------------------------------------------------------------------
B = np.asarray([1.9, 0.7, 1.3, -0.45])
FLOAT_OPS = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
}
INT_OPS = {"&=": operator.iand, "|=": operator.ior, "^=": operator.ixor, "<<=": operator.ilshift, ">>=": operator.irshift}


@pytest.mark.parametrize("name", FLOAT_OPS)
@pytest.mark.parametrize("other", ["Variable", "raw", "number", "a part of itself"])
def test_in_place_operators(name: str, other: str, backend: support.Backend) -> None:
    if backend.name == "array_api_strict" and other == "raw":
        pytest.skip("its arrays are converted by nobody, and these are operands on the right")
    op, start = FLOAT_OPS[name], np.asarray([1.7, 0.3, 2.9, 0.8])
    x = ad.Variable(backend.asarray(start))
    y = x * 2
    same, view = y, y[1:]
    z = y * y  # saves y
    operand = {"Variable": x * 0.7, "raw": backend.asarray(B * B), "number": 1.5, "a part of itself": y[2:3]}[other]
    y = op(y, operand)

    def program(m: Any) -> Any:
        out = m * 2
        before = out * out
        out = op(out, {"Variable": m * 0.7, "raw": B * B, "number": 1.5, "a part of itself": m[2:3] * 2}[other])
        return np.sum(before) + np.sum(out * B) + np.sum(out[1:])

    assert y is same
    assert_close(host(view), host(y)[1:], 0, 0)
    (z.sum() + (y * backend.asarray(B)).sum() + view.sum()).backward()
    assert_close(backend.numpy(x.grad), jacobian(program, start), 1e-9, 1e-9)


@pytest.mark.parametrize("name", INT_OPS)
def test_in_place_operators_of_integers(name: str, backend: support.Backend) -> None:
    start = np.asarray([5, 9, 12, 3])
    y, want = ad.Variable(backend.asarray(start)), start.copy()
    same, view = y, y[::2]
    y, want = INT_OPS[name](y, 2), INT_OPS[name](want, 2)
    assert y is same
    np.testing.assert_array_equal(host(view), want[::2])
    np.testing.assert_array_equal(start, [5, 9, 12, 3])


def test_in_place_matrix_product(backend: support.Backend) -> None:
    a = np.cos(np.arange(9.0)).reshape(3, 3)
    x = ad.Variable(backend.asarray(a))
    y = x * 1
    row = y[0]
    y @= x
    assert_close(host(row), (a @ a)[0], 1e-14)
    (y * y).sum().backward()
    assert_close(backend.numpy(x.grad), jacobian(lambda m: np.sum((m @ m) ** 2), a), 1e-9, 1e-9)


def test_dtype_in_place_is_kept(backend: support.Backend) -> None:
    y = ad.Variable(backend.asarray([1.0, 2.0], "float32"), requires_grad=False)
    want = y.dtype
    y += 1.5
    y[0] = 3
    y *= y
    assert y.dtype == want
    assert_close(host(y), np.asarray([9.0, 12.25], "float32"), 0, 0)


# --- memory that is saved, or somebody else's ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", ["setitem", "mask", "list", "iadd", "view", "fill", "sort", "out"])
def test_what_was_saved_is_never_overwritten(change: str, backend: support.Backend) -> None:
    mine = backend.asarray(X)
    x = ad.Variable(mine)
    y = x + 0
    z = (y * y).sum() + ad.namespace(y).exp(y).sum()  # saves y, and exp(y)
    grads = []
    for _ in range(2):
        grads.append(backend.numpy(ad.gradients(z, x, retain_graph=True)[0]).copy())
        if change == "setitem":
            y[1:] = 7.0
        elif change == "mask":
            y[y > 0] = 7.0
        elif change == "list":
            y[[0, 2]] = 7.0
        elif change == "iadd":
            y += 7.0
        elif change == "view":
            y.reshape(2, 2)[0][:] = 7.0
        elif change == "fill":
            y.fill(7.0)
        elif change == "sort":
            y.sort()
        else:
            x.clip(7.0, 8.0, out=y)
        assert np.max(np.abs(host(y) - X)) > 1
    assert_exact(grads[0], 2 * X + np.exp(X))
    assert_close(grads[1], grads[0], 0, 0)
    assert_close(backend.numpy(mine), X, 0, 0)


def test_a_raw_array_does_not_take_a_variable_in_place() -> None:
    r = X.copy()
    with pytest.raises(EscapedArrayError, match="silently lose its derivative"):
        r[:] = ad.Variable(X)
    with pytest.raises((EscapedArrayError, ValueError)):  # NumPy puts an error of its own on top of float()'s
        ad.grad(lambda x: r.__setitem__(0, x[0]))(X)
    with pytest.raises(TypeError, match="cannot hold a derivative"):
        r += ad.Variable(X)
    assert_close(r, X, 0, 0)


# --- views ------------------------------------------------------------------------------------------------------------------------------------
KINDS: dict[str, Callable[[Any], Any]] = {
    "slice": lambda y: y[1:, ::-2],
    "index": lambda y: y[1],
    "0-d": lambda y: y[1, 2, ...],
    "None": lambda y: y[:, None, 1:3],
    "all": lambda y: y[...],
    "reshape": lambda y: y.reshape(2, 6),
    "reshape by columns": lambda y: y.T.reshape(4, 3),
    "a copy by reshape": lambda y: y.T.reshape(12),
    "a view of columns": lambda y: y[:, :2].reshape(3, 2, 1),
    "a copy of columns": lambda y: y[:, :2].reshape(6),
    "order F": lambda y: y.T.ravel(order="F"),
    "order F copies": lambda y: y.ravel("F"),
    "ravel": lambda y: y.ravel(),
    "ravel of a row": lambda y: y[1].ravel(),
    "ravel of a column": lambda y: y[:, 1].ravel(),
    "squeeze": lambda y: y[:, None].squeeze(),
    "flatten": lambda y: y.flatten(),
    "copy": lambda y: y.copy(),
    "ravel of a copy": lambda y: y.T.copy().ravel(),
    "transpose": lambda y: y.transpose(1, 0),
    "T": lambda y: y.T,
    "mT": lambda y: y[None].mT,
    "swapaxes": lambda y: y[None].swapaxes(0, 2),
    "iteration": lambda y: list(y)[2],
    "of views": lambda y: y.T[1:].reshape(3, 3)[::2].T[0],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_and_its_base_change_together_exactly_where_they_do_in_numpy(kind: str, backend: support.Backend) -> None:
    def program(m: Any, fresh: Callable[[Any], Any]) -> tuple[Any, Any]:
        y = fresh(m)
        v = KINDS[kind](y)
        if kind == "ravel of a copy":
            y = v
            v = v[1:]
        v[...] = 5.0
        y += 2.0
        v *= 3.0
        if len(v.shape):
            v[0] += 1.0
        return y, v

    x = ad.Variable(backend.asarray(M))
    y, v = program(x, lambda m: m * 1)
    want_y, want_v = program(M, np.copy)
    assert_close(host(y), want_y, 1e-14, 1e-14)
    assert_close(host(v), want_v, 1e-14, 1e-14)
    (ad.namespace(y).sin(y).sum() + (v * v).sum()).backward()

    def total(m: Any) -> Any:
        y, v = program(m, np.copy)
        return np.sum(np.sin(y)) + np.sum(v * v)

    assert_close(np.zeros(M.shape) if x.grad is None else backend.numpy(x.grad), gradient(total, M), 1e-12, 1e-12)


def test_the_parts_of_a_complex_array_are_views(backend: support.Backend) -> None:
    c = M + 1j * np.cos(M)

    def program(z: Any) -> Any:
        z.real[0] = 5.0
        z.imag *= 2.0
        z.real[:, 1] += z.imag[:, 0]
        z.T.real = np.arange(3.0) if isinstance(z, np.ndarray) else backend.asarray(np.arange(3.0))
        return z

    z = ad.Variable(backend.asarray(c))
    y = program(z * 1)
    want = program(c.copy())
    assert_close(host(y), want, 1e-14, 1e-14)
    (y.real * y.real + y.imag * y.imag).sum().backward()

    def total(m: Any) -> Any:
        return np.sum(np.abs(program((m[0] + 1j * m[1]).copy())) ** 2)

    slopes = jacobian(total, np.stack([c.real, c.imag]))
    assert_close(backend.numpy(z.grad), slopes[0] + 1j * slopes[1])
    r = ad.Variable(X, requires_grad=False)
    r.real *= 2.0
    assert_exact(raw(r), 2 * X)
    with pytest.raises(TypeError, match="float64 has no imaginary part to set"):
        r.imag = 1.0


def test_a_view_made_before_an_update_of_its_leaf_sees_it() -> None:
    w = ad.Variable(M)
    row, flat = w[1], w.reshape(12)
    with ad.no_grad():
        w -= 1.0
        flat[0] = 9.0
    want = M - 1
    want[0, 0] = 9.0
    assert w.is_leaf and w.requires_grad
    assert_exact(raw(w), want)
    assert_exact(raw(row), want[1])
    assert_exact(raw(flat), want.ravel())
    (row * row).sum().backward()
    assert_exact(w.grad[1], 2 * want[1])


def test_a_view_whose_base_got_other_data_stands_apart_as_in_torch() -> None:
    w = ad.Variable(M)
    row = w[1]
    w.data = M + 10.0
    with ad.no_grad():
        row += 1.0
        w[0] = 0.0
    assert_exact(raw(row), M[1] + 1)
    assert_exact(raw(w), np.concatenate([np.zeros((1, 4)), M[1:] + 10]))
    part = ad.Variable(M, requires_grad=False)[0]
    part.data = X
    part += 1.0
    assert_exact(raw(part), X + 1)


def test_a_refused_change_changes_nothing() -> None:
    w = ad.Variable(M)
    with ad.no_grad():
        row = w[1]  # no history: outside no_grad a change of it would be one of the leaf
    with pytest.raises(RuntimeError, match=r"leaf Variable that requires grad.*no_grad"):
        row += 1.0
    assert_exact(raw(row), M[1])
    assert_exact(raw(w), M)
    c = ad.Variable(M, requires_grad=False)
    leaf = c[0]
    leaf.requires_grad = True
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        c += 1.0
    assert_exact(raw(c), M)


def test_leaves_over_variables_are_not_changed_in_place_either() -> None:
    xp = ad.differentiable(ad.differentiable(np))
    x = xp.asarray(X)
    x.requires_grad = True
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        x += 1.0


def test_an_expanded_array_is_read_only_and_follows_its_base(backend: support.Backend) -> None:
    y = ad.Variable(backend.asarray(X)) * 1
    wide = y.expand(3, -1)
    y[0] = 5.0
    assert_close(host(wide), np.broadcast_to([5.0, *X[1:]], (3, 4)), 0, 0)
    with pytest.raises(RuntimeError, match=r"expanded from shape \(4,\) to \(3, 4\) cannot be changed in place.*copy"):
        wide[0, 0] = 1.0
    with pytest.raises(RuntimeError, match=r"expanded from shape"):
        wide[1] += 1.0
    assert_close(host(y), [5.0, *X[1:]], 0, 0)


def test_long_chains_of_views() -> None:
    y = ad.Variable(np.zeros(3000)) * 1
    v = y
    for _ in range(2900):
        v = v[1:]
    v[0] = 1.0
    assert raw(y)[2900] == 1.0 and raw(y).sum() == 1.0


def test_views_keep_their_base_alive_and_bases_do_not_keep_views(backend: support.Backend) -> None:
    y = ad.Variable(backend.asarray(M)) * 1
    for _ in range(1000):
        y[0]
    assert len(y._views) <= 32
    row = (ad.Variable(backend.asarray(M)) * 1)[0]
    row[0] = 5.0
    assert_close(host(row), [5.0, *M[0, 1:]], 0, 0)


@pytest.mark.parametrize("inner", ["grad", "jvp", "vmap"])
def test_an_array_outside_a_transformation_cannot_take_its_values(inner: str) -> None:
    out = ad.Variable(np.zeros(4), requires_grad=False)

    def f(x: Any) -> Any:
        with pytest.raises(EscapedArrayError, match=r"cannot (take|hold) a value of"):
            out[...] = x
        with pytest.raises(EscapedArrayError, match="cannot take a value of"):
            out.__iadd__(x)
        return x.sum()

    {"grad": lambda: ad.grad(f)(X), "jvp": lambda: ad.jvp(f, (X,), (X,)), "vmap": lambda: ad.vmap(f)(X[None])}[inner]()
    assert_exact(raw(out), np.zeros(4))


# --- out= ----------------------------------------------------------------------------------------------------------------------------------------
OUTS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, **o: x.sum(axis=0, **o),
    "mean": lambda x, **o: x.mean(0, **o),
    "prod": lambda x, **o: x.prod(axis=0, **o),
    "max": lambda x, **o: x.max(axis=0, **o),
    "min": lambda x, **o: x.min(axis=0, **o),
    "std": lambda x, **o: x.std(axis=0, **o),
    "var": lambda x, **o: x.var(axis=0, ddof=1, **o),
    "cumsum": lambda x, **o: x[0].cumsum(**o),
    "cumprod": lambda x, **o: x[0].cumprod(**o),
    "clip": lambda x, **o: x[0].clip(-0.3, 0.3, **o),
    "dot": lambda x, **o: x[0, :3].dot(x, **o),
    "take": lambda x, **o: x.take([3, 1, 0, 0], **o),
    "round": lambda x, **o: x[0].round(1, **o),
    "conj": lambda x, **o: x[1].conj(**o),
}


@pytest.mark.parametrize("name", OUTS)
def test_out(name: str, backend: support.Backend) -> None:
    f = OUTS[name]
    x = ad.Variable(backend.asarray(M))
    y = ad.namespace(x).zeros((2, 4), dtype=x.dtype)
    assert f(x, out=y[1]).shape == (4,)
    want = np.zeros((2, 4))
    want[1] = f(M)
    assert_close(host(y), want, 1e-14, 1e-14)
    (x.sum() * 0 + (y * y).sum()).backward()
    assert_close(backend.numpy(x.grad), jacobian(lambda m: np.sum(f(m) ** 2), M))


def test_out_is_an_array_of_the_right_shape_that_can_hold_derivatives() -> None:
    x, y = ad.Variable(M), ad.Variable(np.zeros(3), requires_grad=False)
    with pytest.raises(TypeError, match=r"sum: out= is a ndarray, which cannot hold a derivative.*pass a Variable"):
        x.sum(axis=0, out=np.zeros(4))
    with pytest.raises(ValueError, match=r"sum with out= cannot change shape \(3,\) to \(4,\)"):
        x.sum(axis=0, out=y)
    with pytest.raises(TypeError, match="mean with out= cannot put dtype float64 into an array of dtype int64"):
        x.mean(axis=1, out=ad.Variable(np.zeros(3, int)))
    counts = ad.Variable(np.zeros(4, int))
    assert x.argmax(axis=0, out=counts) is counts
    np.testing.assert_array_equal(raw(counts), M.argmax(axis=0))
