"""Creation functions and dtypes: Variables of the library asked for, on the device asked for, with derivatives through their scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad.errors import MissingFunctionError
from agnostic_ad.namespaces import backend_of_namespace

MADE: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "arange": ((1, 7, 2), {}),
    "asarray": (([[1.0, 2.0]],), {}),
    "eye": ((2, 3), {"k": 1}),
    "full": (((2, 2), 1.5), {}),
    "linspace": ((0.0, 2.0, 5), {"endpoint": False}),
    "ones": (((2,),), {}),
    "zeros": ((3,), {}),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_values(name: str, dtype: str | None, backend: support.Backend) -> None:
    args, options = MADE[name]
    options = options if dtype is None else {**options, "dtype": dtype}
    made = getattr(ad.differentiable(backend.xp), name)(*args, **options)
    expected = getattr(np, name)(*args, **options)
    assert isinstance(made, ad.Variable) and not made.requires_grad
    found = backend.numpy(made.data)
    assert np.allclose(found, expected, rtol=1e-6) and found.shape == expected.shape  # torch's default is float32
    if dtype is not None:
        assert found.dtype == np.float32


@pytest.mark.parametrize("name", ["empty_like", "full_like", "ones_like", "zeros_like"])
def test_like(name: str, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    x = ad.Variable(backend.asarray([[1.0, 2.0]], dtype="float32"))
    more = (3.0,) if name == "full_like" else ()
    for like in (x, x.data):
        made = getattr(xp, name)(like, *more)
        assert isinstance(made, ad.Variable) and (made.shape, made.dtype, made.device) == (x.shape, x.dtype, x.device)
    assert str(getattr(xp, name)(x, *more, dtype=xp.float64).dtype).endswith("float64")


def test_empty_has_its_shape(backend: support.Backend) -> None:
    assert ad.differentiable(backend.xp).empty((2, 0)).shape == (2, 0)


@pytest.mark.parametrize("f", ["full", "full_like", "linspace", "stop", "asarray", "both"])
def test_derivatives_flow_through_scalars(f: str, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)

    def make(s: Any) -> Any:
        space = ad.namespace(s)
        like = backend.asarray([1.0, 2.0])
        return {
            "full": lambda: space.full((3,), s),
            "full_like": lambda: space.full_like(like, s),
            "linspace": lambda: space.linspace(s, 2.0, 4),
            "stop": lambda: space.linspace(1, s, 3, endpoint=False),
            "both": lambda: space.linspace(s, s * s, 3),
            "asarray": lambda: space.asarray([[s, 2.0], [s * s, s]]),
        }[f]()

    slopes = {"full": 3.0, "full_like": 2.0, "linspace": 2.0, "stop": 1.0, "both": 1.5 + 1.5 * 2 * 0.5, "asarray": 2 + 2 * 0.5}
    at = backend.asarray(0.5)
    assert backend.numpy(ad.grad(lambda s: make(s).sum())(at)) == pytest.approx(slopes[f], rel=1e-14)
    assert backend.numpy(ad.jvp(lambda s: make(s).sum(), (at,), (backend.asarray(1.0),))[1]) == pytest.approx(slopes[f], rel=1e-14)
    v = ad.Variable(at)
    assert isinstance(make(v), ad.Variable) and make(v).requires_grad
    assert backend.numpy(ad.vmap(make)(xp.stack([v, v]).data)).shape[0] == 2


def test_linspace_hits_its_ends_and_stays_float32(backend: support.Backend) -> None:
    ends = [ad.Variable(backend.asarray(n, dtype="float32")) for n in (0.1, 0.7)]
    y = ad.namespace(*ends).linspace(*ends, 7)
    found = backend.numpy(y.data)
    assert found.dtype == np.float32
    assert found[0] == np.float32(0.1) and found[-1] == np.float32(0.7)


def test_asarray(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    x = ad.Variable(backend.asarray([1.0, 2.0]))
    assert xp.asarray(x) is x
    assert xp.asarray(x, copy=True) is not x and xp.asarray(x, copy=True).requires_grad
    assert str(xp.asarray(x, dtype=xp.float32).dtype).endswith("float32")
    assert backend.numpy(xp.asarray(np.asarray([1, 2])).data).tolist() == [1, 2]  # an explicit conversion, of values
    with pytest.raises(ValueError, match=r"changing dtype .* needs a copy"):
        xp.asarray(x, dtype=xp.float32, copy=False)


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "jax"))
def test_asarray_of_a_third_library_is_refused(backend: support.Backend) -> None:
    other = support.Backend("torch" if backend.name != "torch" else "array_api_strict")
    if support.why_missing(other.name):
        pytest.skip(support.why_missing(other.name))
    with pytest.raises(TypeError, match=r"asarray: an array of .* given to .*from_dlpack"):
        ad.differentiable(backend.xp).asarray(other.asarray([1.0]))


def test_from_dlpack(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    if backend.name == "dask":
        with pytest.raises(MissingFunctionError, match=r"dask.array has no function 'from_dlpack'"):
            xp.from_dlpack(np.ones(2))
        return
    raw = backend.asarray([1.0, 2.0])
    made = xp.from_dlpack(raw)
    assert isinstance(made, ad.Variable) and backend.numpy(made.data).tolist() == [1.0, 2.0]
    capsule = made.__dlpack__(stream=None, max_version=None, dl_device=None, copy=None)  # the standard's arguments, all of them
    assert type(capsule).__name__ == "PyCapsule"


def test_from_dlpack_of_a_variable_stays_connected(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    x = ad.Variable(backend.asarray([1.0, 2.0]))
    assert xp.from_dlpack(x) is x
    made = xp.from_dlpack(x, copy=True)
    (made * made).sum().backward()
    assert made is not x and backend.numpy(x.grad).tolist() == [2.0, 4.0]


def test_made_inside_a_transformation_they_belong_to_it(backend: support.Backend) -> None:
    seen = []

    def f(x: Any) -> Any:
        xp = x.__array_namespace__()
        parts = [xp.ones((2,)), xp.zeros_like(x), xp.eye(2), xp.arange(2), xp.asarray(backend.asarray([1.0])), xp.linspace(0, 1, 2)]
        seen.extend(type(p) is type(x) and p.level is x.level for p in parts)
        return (x * parts[0]).sum()

    ad.grad(f)(backend.asarray([1.0, 2.0]))
    ad.jvp(f, (backend.asarray([1.0, 2.0]),), (backend.asarray([1.0, 2.0]),))
    ad.vmap(f)(backend.asarray([[1.0, 2.0]]))
    assert seen == [True] * 18


@pytest.mark.parametrize("backend", support.params("array_api_strict"))
def test_devices(backend: support.Backend) -> None:
    place = backend_of_namespace(backend.xp).parse_device("device1")
    xp = ad.differentiable(backend.xp)
    for name, (args, options) in MADE.items():
        assert getattr(xp, name)(*args, **options, device=place).device == place
    x = ad.Variable(backend.xp.asarray([1.0, 2.0], device=place))
    assert xp.zeros_like(x).device == xp.full_like(x, 2.0).device == xp.asarray(x).device == place
    assert xp.linspace(x[0], 2.0, 3).device == xp.full((2,), x[0]).device == xp.asarray([x[0], 1.0]).device == place
    moved = xp.asarray(x, device="cpu")
    assert moved.device == backend_of_namespace(backend.xp).parse_device("cpu") and moved.requires_grad


def test_dtype_functions_take_our_arrays(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    x, y = ad.Variable(backend.asarray([1.0], dtype="float32")), ad.Variable(backend.asarray([1.0]))
    assert xp.result_type(x, y) == xp.float64 and xp.result_type(x, xp.float32) == xp.float32
    assert xp.can_cast(x, xp.float64) and not xp.can_cast(x, xp.int32)
    assert xp.finfo(x).bits == 32 and xp.iinfo(xp.int32).max == 2**31 - 1
    assert xp.isdtype(x.dtype, "real floating")
    assert xp.broadcast_shapes((2, 1), (3,)) == (2, 3)
