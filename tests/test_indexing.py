"""Everything that NumPy allows between brackets, read and written, on every library: values, derivatives, batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import support
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError, UnsupportedError

S = slice
ALL = slice(None)
SHAPE = (3, 4, 2)


def ints(*values: Any) -> Any:
    return np.asarray(values, dtype=np.int64)


THREE, FOUR = np.asarray([True, False, True]), np.asarray([False, True, True, False])
PLANE = np.arange(12).reshape(3, 4) % 5 < 2
BLOCK = np.arange(24).reshape(SHAPE) % 7 < 3

BASIC: dict[str, Any] = {
    "int": 1,
    "negative int": -1,
    "numpy int": np.int64(2),
    "slice": S(1, 3),
    "step": S(None, None, 2),
    "negative step": S(None, None, -1),
    "negative step with ends": (S(2, 0, -2), S(-1, None, -3)),
    "beyond the end": S(1, 100),
    "empty slice": S(2, 2),
    "ellipsis": ...,
    "ellipsis between": (0, ..., 1),
    "none": None,
    "none between": (ALL, None, 1, ..., None),
    "nothing": (),
    "all ints": (1, 2, 0),
    "short": (1, S(None, None, -2)),
}
ARRAYS: dict[str, Any] = {
    "array": ints(2, 0, 2),
    "negative": ints(-1, 0),
    "list": [0, 2, 2, 1],
    "nested list": [[0, 1], [2, 0]],
    "2-d array": ints([0, 1], [2, 2]),
    "0-d array": np.asarray(1),
    "empty list": [],
    "empty array": ints(),
    "second axis": (ALL, ints(3, 0)),
    "last axis": (..., ints(1, 1, 0)),
    "two arrays": (ints(0, 2), ints(3, 1)),
    "three arrays": (ints(0, 2, 0), ints(3, 1, 3), ints(0, 1, 0)),
    "broadcast": (ints([0], [2]), ints(3, 1, 0)),
    "separated": (ints(0, 2), ALL, ints(1, 0)),
    "separated by none": (ints(0, 2), None, ints(1, 0)),
    "separated, int first": (0, ALL, ints(1, 0, 0)),
    "separated, int last": (ints(0, 2), ALL, 1),
    "int then array": (1, ints(0, 3)),
    "array then int": (ints(0, 2), -1),
    "slice then arrays": (S(None, None, -2), ints(0, 3, 3), ints(1, 0, 0)),
    "none then array": (None, ints(0, 2)),
    "array then none": (ints(0, 2), None),
    "2-d in the middle": (ALL, ints([0, 1], [3, 3]), None, 1),
    "slices on both sides": (S(1, None), ints(3, 0), S(None, None, -1)),
}
MASKS: dict[str, Any] = {
    "mask": THREE,
    "mask of the second axis": (ALL, FOUR),
    "2-d mask": PLANE,
    "3-d mask": BLOCK,
    "2-d mask, then slice": (PLANE, S(None, None, -1)),
    "2-d mask, then int": (PLANE, 1),
    "mask and int": (THREE, 1),
    "mask and array": (THREE, ALL, ints(1, 0)),
    "mask and mask": (THREE, FOUR),
    "nothing true": np.zeros(3, dtype=bool),
    "mask of no size": np.zeros((0,), dtype=bool),
    "2-d mask of no size": np.zeros((3, 0), dtype=bool),
    "list mask": [True, False, True],
}
KEYS = BASIC | ARRAYS | MASKS


def x_of(shape: tuple[int, ...] = SHAPE, start: float = 1.0) -> Any:
    return np.arange(start, start + np.prod(shape)).reshape(shape) / 7


def over(backend: support.Backend, key: Any) -> Any:
    """Give a key with its arrays in a library's own kind."""
    if isinstance(key, tuple):
        return tuple(over(backend, k) for k in key)
    return backend.asarray(key) if isinstance(key, np.ndarray) else key


def lacking(backend: support.Backend, key: Any) -> None:
    if backend.name == "dask" and any(np.asarray(k).dtype == bool for k in (key if isinstance(key, tuple) else (key,)) if holds(k)):
        pytest.skip("dask does not know the shape behind a mask, and no rule can reshape to it")


def holds(k: Any) -> bool:
    return isinstance(k, np.ndarray | list)


def scattered(key: Any, ct: Any) -> Any:
    out = np.zeros(SHAPE)
    np.add.at(out, key, ct)
    return out


# --- reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", KEYS)
def test_values_and_derivatives(name: str, backend: support.Backend) -> None:
    key, x = KEYS[name], x_of()
    lacking(backend, key)
    ours = over(backend, key)
    expected = x[key]
    c, t = x_of(expected.shape, 2.0), np.cos(x)
    v = ad.Variable(backend.asarray(x))
    y = v[ours]
    assert np.array_equal(backend.numpy(y.data), expected) and y.shape == expected.shape
    y.backward(backend.asarray(c))
    assert np.allclose(backend.numpy(v.grad), scattered(key, c), rtol=1e-14)
    raw, tangent = backend.asarray(x), backend.asarray(t)
    primal, moved = ad.jvp(lambda u: u[ours], (raw,), (tangent,))
    assert np.array_equal(backend.numpy(primal), expected) and np.array_equal(backend.numpy(moved), t[key])

    def loss(u: Any) -> Any:
        w = u[ours]
        return (w * w * backend.asarray(c)).sum()

    hvp = backend.numpy(ad.hvp(loss, (raw,), (tangent,))[0])
    assert np.allclose(hvp, scattered(key, 2 * c * t[key]), rtol=1e-13)
    again = ad.grad(lambda u: (ad.grad(loss)(u) * tangent).sum())(raw)
    assert np.allclose(backend.numpy(again), hvp, rtol=1e-13)


@pytest.mark.parametrize("backend", support.params(without=("dask", "jax")))  # lists and loops over members: slow there, and no other rules
@pytest.mark.parametrize("name", BASIC | ARRAYS)
def test_batches(name: str, backend: support.Backend) -> None:
    key, x = KEYS[name], np.stack([x_of(), x_of(start=30.0)])
    ours, raw = over(backend, key), backend.asarray(x)
    found = ad.vmap(lambda u: u[ours])(raw)
    assert np.array_equal(backend.numpy(found), np.stack([m[key] for m in x]))
    grads = ad.vmap(ad.grad(lambda u: (u[ours] * u[ours]).sum()))(raw)
    assert np.allclose(backend.numpy(grads), np.stack([scattered(key, 2 * m[key]) for m in x]), rtol=1e-14)


BATCHED_KEYS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda i: i,
    "second axis": lambda i: (ALL, i),
    "with an int": lambda i: (1, i),
    "with a slice": lambda i: (S(None, None, -1), i, 0),
    "twice": lambda i: (i, ALL, i),
    "with none": lambda i: (None, i, None),
}


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
@pytest.mark.parametrize("name", BATCHED_KEYS)
@pytest.mark.parametrize("which", ["index", "both"])
def test_batched_indices(which: str, name: str, backend: support.Backend) -> None:
    make = BATCHED_KEYS[name]
    indices = ints([0, 1, 1], [-1, 0, 1])
    members = [x_of(), x_of(start=30.0)]
    raw = backend.asarray(np.stack(members) if which == "both" else members[0])
    rows = members if which == "both" else [members[0]] * 2
    axes = (0 if which == "both" else None, 0)
    f = lambda u, i: ad.namespace(u, i).asarray(u)[make(i)]  # a raw array knows nothing of our indices
    found = ad.vmap(f, in_axes=axes)(raw, backend.asarray(indices))
    assert np.array_equal(backend.numpy(found), np.stack([m[make(i)] for m, i in zip(rows, indices, strict=True)]))
    square = ad.grad(lambda u, i: (f(u, i) * f(u, i)).sum())
    grads = ad.vmap(square, in_axes=axes)(raw, backend.asarray(indices))
    expected = [scattered(make(i), 2 * m[make(i)]) for m, i in zip(rows, indices, strict=True)]
    assert np.allclose(backend.numpy(grads), np.stack(expected), rtol=1e-14)


def test_variables_as_indices_carry_no_derivative(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(x_of()))
    index = ad.Variable(backend.asarray(ints(2, 0)))
    assert np.array_equal(backend.numpy(x[index].data), x_of()[[2, 0]])
    assert np.array_equal(backend.numpy(x[index, 1].data), x_of()[[2, 0], 1])


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_a_mask_computed_from_the_array(backend: support.Backend) -> None:
    f = lambda x: (x[x > 1.0] * x[x > 1.0]).sum()
    found = ad.grad(f)(backend.asarray([0.5, 2.0, 3.0]))
    assert np.array_equal(backend.numpy(found), [0.0, 4.0, 6.0])


def test_a_mask_that_differs_between_members_is_refused(backend: support.Backend) -> None:
    with pytest.raises(UnsupportedError, match=r"nonzero gives an array whose shape depends on the data.*xp.where"):
        ad.vmap(lambda x: x[x > 1.0].sum())(backend.asarray([[0.5, 2.0], [3.0, 4.0]]))


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "int": (3, IndexError, "index 3 is out of bounds"),
    "negative int": ((0, -5), IndexError, "index -5 is out of bounds"),
    "too many": ((0, 0, 0, 0), IndexError, "too many indices"),
    "two ellipses": ((..., 0, ...), IndexError, "one Ellipsis"),
    "float": (1.0, IndexError, "only integers, slices"),
    "float array": (np.ones(2), IndexError, "integers or booleans, not"),
    "text": ("a", IndexError, "only integers, slices"),
    "mask of another shape": (np.ones(4, dtype=bool), IndexError, "a mask of shape"),
    "arrays that do not broadcast": ((ints(0, 1), ints(0, 1, 2)), (IndexError, ValueError), "do not broadcast"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", BAD)
def test_bad_keys(name: str, backend: support.Backend) -> None:
    key, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        ad.Variable(backend.asarray(x_of()))[over(backend, key)]


@pytest.mark.parametrize("backend", support.params(without=("dask", "jax")))  # lazy, or on a device: they do not look
@pytest.mark.parametrize("key", [ints(0, 3), (ALL, ints(-5)), [7]], ids=["beyond", "before", "list"])
def test_index_arrays_out_of_bounds(key: Any, backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray(x_of()))
    with pytest.raises(IndexError, match="out of bounds for axis"):
        v[over(backend, key)]
    with pytest.raises(IndexError, match="out of bounds for axis"):
        ad.grad(lambda x: x[over(backend, key)].sum())(v.data)


@settings(max_examples=150)
@given(st.data())
def test_random_keys(data: Any) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    basic = npst.basic_indices(shape, allow_newaxis=True)
    arrays = npst.integer_array_indices(shape, result_shape=npst.array_shapes(max_dims=2, max_side=3))
    key = data.draw(basic | arrays | mixed_keys(shape))
    x = x_of(shape)
    expected = x[key]
    assert np.array_equal(ad.Variable(x)[key].data, expected)
    grads = ad.grad(lambda u: (u[key] * (expected + 1)).sum())(x)
    reference = np.zeros(shape)
    np.add.at(reference, key, expected + 1)
    assert np.allclose(grads, reference, rtol=1e-14)


@st.composite
def mixed_keys(draw: Any, shape: tuple[int, ...]) -> Any:
    """Slices, None, integers, and arrays that broadcast together, in every order."""
    common = draw(st.sampled_from([(2,), (2, 1), (1, 2), (2, 2)]))
    key: list[Any] = []
    for n in shape:
        if draw(st.booleans()):
            key.append(None)
        key.append(
            draw(
                st.just(ALL)
                | st.slices(n)
                | st.integers(-n, n - 1)
                | npst.arrays(np.int64, draw(st.sampled_from([common, (1,), ()])), elements=st.integers(-n, n - 1))
            )
        )
    return tuple(key)


# --- writing ------------------------------------------------------------------------------------------------------------


def write(x: Any, key: Any, value: Any) -> Any:
    y = x.copy()
    y[key] = value
    return y


def writers(key: Any, shape: tuple[int, ...]) -> Any:
    """Say of each element which element of a value of ``shape`` NumPy wrote there last; -1 for none."""
    numbers = np.full(SHAPE, -1)
    numbers[key] = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return numbers


DUPLICATES: dict[str, Any] = {
    "duplicates": ints(1, 1, 0),
    "duplicates of two": (ints(0, 0, 2), ints(1, 1, 1)),
    "duplicates, negative": ints(2, -1, 2),
}
WRITTEN = [name for name in KEYS if name != "nothing"] + list(DUPLICATES)


@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", WRITTEN)
def test_writing(name: str, backend: support.Backend) -> None:
    key = (KEYS | DUPLICATES)[name]
    lacking(backend, key)
    room = x_of()[key].shape
    shapes = {room} if backend.name in ("jax", "dask") else {room, (), room[-1:]}  # one, where each costs a second
    for shape in sorted(shapes):
        check_writing(key, shape, backend)


def check_writing(key: Any, shape: tuple[int, ...], backend: support.Backend) -> None:
    x = x_of()
    room = x[key].shape
    value, ct, t = x_of(shape, 50.0), x_of(start=100.0), np.cos(x)
    expected = write(x, key, value)
    ours = over(backend, key)
    numbers = writers(key, room)
    f = lambda u, w: write(u, ours, w)
    raw = (backend.asarray(x), backend.asarray(value))
    y, pullback = ad.vjp(f, *raw)
    assert np.array_equal(backend.numpy(y), expected)
    to_x, to_value = (backend.numpy(g) for g in pullback(backend.asarray(ct)))
    assert np.array_equal(to_x, np.where(numbers < 0, ct, 0.0))
    wide = np.zeros(int(np.prod(room)))
    np.add.at(wide, numbers[numbers >= 0], ct[numbers >= 0])
    summed = wide.reshape(room)
    while summed.ndim > value.ndim:
        summed = summed.sum(axis=0)
    assert np.allclose(to_value, summed, rtol=1e-14)
    s = np.sin(value)
    moved = ad.jvp(f, raw, (backend.asarray(t), backend.asarray(s)))[1]
    assert np.array_equal(backend.numpy(moved), write(t, key, s))

    def loss(u: Any, w: Any) -> Any:
        z = f(u, w)
        return (z * z * backend.asarray(ct)).sum()

    hvp = ad.hvp(loss, raw, (backend.asarray(t), backend.asarray(s)))[0]
    assert np.allclose(backend.numpy(hvp), np.where(numbers < 0, 2 * ct * t, 0.0), rtol=1e-13)


@pytest.mark.parametrize("backend", support.params(without=("dask", "jax")))
@pytest.mark.parametrize("name", [*BASIC, *ARRAYS, *DUPLICATES])
@pytest.mark.parametrize("which", ["x", "value", "both"])
def test_writing_in_batches(which: str, name: str, backend: support.Backend) -> None:
    key = (KEYS | DUPLICATES)[name]
    members, room = [x_of(), x_of(start=30.0)], x_of()[key].shape
    values = [x_of(room, 50.0), x_of(room, 80.0)]
    axes = {"x": (0, None), "value": (None, 0), "both": (0, 0)}[which]
    raw = [backend.asarray(np.stack(m) if axis == 0 else m[0]) for m, axis in zip((members, values), axes, strict=True)]

    def f(u: Any, w: Any) -> Any:
        xp = ad.namespace(u, w)
        y = xp.asarray(u, copy=True)
        y[over(backend, key)] = w
        return y

    found = ad.vmap(f, in_axes=axes)(*raw)
    rows = [write(members[k if axes[0] == 0 else 0], key, values[k if axes[1] == 0 else 0]) for k in range(2)]
    assert np.array_equal(backend.numpy(found), np.stack(rows))


def test_a_saved_array_is_never_overwritten(backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray([1.0, 2.0]))
    w = v * 1.0
    y = w * w  # keeps w
    w[0] = 10.0
    (y.sum() + w.sum()).backward()
    assert np.array_equal(backend.numpy(v.grad), [2.0, 5.0])
    assert np.array_equal(backend.numpy(v.data), [1.0, 2.0])


def test_a_leaf_is_not_written_outside_no_grad(backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is changed in place"):
        v[0] = 3.0
    with ad.no_grad():
        v[0] = 3.0
    assert np.array_equal(backend.numpy(v.data), [3.0, 2.0]) and v.is_leaf and v.requires_grad


def test_dtypes_of_what_is_written(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    x = xp.zeros((2,), dtype=xp.float32)
    x[0] = ad.Variable(backend.asarray(2.5))
    x[1] = 3
    assert str(x.dtype).endswith("float32") and backend.numpy(x.data).tolist() == [2.5, 3.0]
    n = xp.zeros((2,), dtype=xp.int64)
    with pytest.raises(TypeError, match=r"an array of dtype .*int64 cannot hold values of dtype .*float64"):
        n[0] = ad.Variable(backend.asarray(2.5))
    with pytest.raises(TypeError, match=r"cannot hold values of dtype .*complex"):
        x[0] = 1j


def test_shapes_of_what_is_written(backend: support.Backend) -> None:
    x = ad.differentiable(backend.xp).zeros((2, 3))
    with pytest.raises((ValueError, RuntimeError, TypeError)):
        x[0] = backend.asarray([1.0, 2.0])
    with pytest.raises(IndexError):
        x[2] = 1.0


def test_a_value_of_an_inner_transformation_does_not_fit_into_an_outer_array() -> None:
    outer = ad.differentiable(np).zeros((2,))

    def f(x: Any) -> Any:
        outer[0] = x
        return x

    with pytest.raises(EscapedArrayError, match=r"cannot hold a value of grad\(f\), which runs inside it"):
        ad.grad(f)(1.0)


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_masks_in_place(backend: support.Backend) -> None:
    def relu(x: Any) -> Any:
        y = x * 1.0
        y[y < 0] = 0.0
        y[y > 2.0] *= 3.0
        return y.sum()

    found = ad.grad(relu)(backend.asarray([-1.0, 1.0, 3.0]))
    assert np.array_equal(backend.numpy(found), [0.0, 1.0, 3.0])


def test_augmented_assignment(backend: support.Backend) -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        y[0] += y[1] * y[1]
        y *= 2.0
        return y.sum()

    assert np.array_equal(backend.numpy(ad.grad(f)(backend.asarray([1.0, 3.0]))), [2.0, 14.0])
