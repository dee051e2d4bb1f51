"""What bad input gets: one clear error each. The texts name the operation, the transformation and the argument; say what came, why that is
wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import errors

X = np.asarray([0.3, -1.2, 0.7])
M = np.arange(6.0).reshape(2, 3)


def var(value: Any = X, **options: Any) -> ad.Variable:
    return ad.Variable(np.array(value), **options)


# --- the classes --------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("MissingRuleError", (NotImplementedError,)),
        ("EscapedArrayError", (RuntimeError,)),
        ("MixedArraysError", (TypeError,)),
        ("GraphFreedError", (RuntimeError,)),
        ("AxisError", (ValueError, IndexError)),
        ("CustomRuleError", (TypeError, ValueError)),
        ("AnomalyError", (FloatingPointError,)),
        ("UnsupportedError", (NotImplementedError,)),
        ("MissingFunctionError", (AttributeError,)),
    ],
)
def test_errors_are_those_of_python(name: str, bases: tuple[type, ...]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.AgnosticADError) and all(issubclass(kind, b) for b in bases)


# --- mixed libraries and devices --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", support.params("torch", "array_api_strict", "jax", "dask"))
@pytest.mark.parametrize(
    "run",
    [
        lambda v, x: v * x,
        lambda v, x: v + x,
        lambda v, x: v @ x,
        lambda v, x: v - ad.Variable(x),
        lambda v, x: ad.namespace(v).where(v > 0, v, x),
        lambda v, x: ad.namespace(v).maximum(v, x),
        lambda v, x: ad.namespace(v).concat([v, x]),
    ],
    ids=["mul", "add", "matmul", "variables", "where", "maximum", "concat"],
)
def test_two_libraries_in_one_operation(backend: support.Backend, run: Callable[[Any, Any], Any]) -> None:
    for v, x in ((var(), backend.asarray(X)), (ad.Variable(backend.asarray(X)), X)):
        with pytest.raises(errors.MixedArraysError, match=r"two array libraries, [\w.]+ and [\w.]+\. Convert one of them first.*\.to\("):
            run(v, x)


@pytest.mark.parametrize("backend", support.params("torch", "array_api_strict", "jax"))
def test_numpy_operands_over_other_libraries_are_never_converted(backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray(X))
    for run in (
        lambda: np.float64(2) * v,
        lambda: v * np.float64(2),
        lambda: X @ v,
        lambda: X + v,
        lambda: np.float32(1) / v,
        lambda: v ** np.asarray(2.0),
    ):
        with pytest.raises(TypeError, match=r"numpy|ndarray|libraries"):
            run()


def test_two_libraries_in_one_transformation() -> None:
    torch = pytest.importorskip("torch")
    t = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    with pytest.raises(errors.MixedArraysError, match=r"multiply.*numpy and torch"):
        ad.grad(lambda x: (x * t).sum())(X)
    with pytest.raises(errors.MixedArraysError, match=r"several libraries.*numpy, torch"):
        ad.namespace(X, t)


def test_two_devices() -> None:
    xp = pytest.importorskip("array_api_strict")
    a = ad.Variable(xp.asarray([1.0, 2.0]))
    b = ad.Variable(xp.asarray([1.0, 2.0], device=xp.Device("device1")))
    with pytest.raises(
        errors.MixedArraysError, match=r"multiply: operands lie on different devices.*CPU_DEVICE.*device1.*x\.to\(device="
    ) as caught:
        a * b
    assert caught.value.__cause__ is not None or caught.value.__context__ is not None


# --- backward -------------------------------------------------------------------------------------------------------------------------------------
def test_backward_of_an_array_without_a_gradient() -> None:
    with pytest.raises(RuntimeError, match=r"backward\(\): an output of shape \(3,\) needs a cotangent of that shape.*Sum it, or pass"):
        (var() * 2).backward()
    with pytest.raises(RuntimeError, match=r"grad\(f\): an output of shape \(3,\)"):

        def f(x: Any) -> Any:
            return x * 2

        ad.grad(f)(X)
    with pytest.raises(RuntimeError, match=r"gradients: an output of shape \(3,\)"):
        x = var()
        ad.gradients(x * 2, x)
    with pytest.raises(RuntimeError, match=r"shape \(0,\)"):
        (var(np.zeros(0)) * 2).backward()


def test_backward_of_a_complex_output_without_a_gradient() -> None:
    for run in (lambda: (var(1 + 2j) * 2).backward(), lambda: ad.grad(lambda z: z * z)(1 + 2j)):
        with pytest.raises(RuntimeError, match=r"complex output \(dtype complex128\) needs a cotangent"):
            run()


GRADIENTS: list[tuple[Any, type[Exception], str]] = [
    (np.ones(2), ValueError, r"the gradient has shape \(2,\), the array \(3,\)"),
    (np.ones((3, 1)), ValueError, r"the gradient has shape \(3, 1\), the array \(3,\)"),
    (1.0, ValueError, r"the gradient has shape \(\), the array \(3,\)"),
    (np.ones(3, "float32"), TypeError, r"the gradient has dtype float32, the array float64.*astype"),
    (np.ones(3, "int64"), TypeError, r"the gradient has dtype int64, the array float64"),
    (np.ones(3) * 1j, TypeError, r"the gradient has dtype complex128, the array float64"),
    ([1.0, 1.0, 1.0], TypeError, r"the gradient is of list, the array of numpy"),
    ("text", TypeError, r"the gradient is of str, the array of numpy"),
]


@pytest.mark.parametrize(("gradient", "kind", "message"), GRADIENTS, ids=lambda v: str(v)[:12])
def test_a_gradient_of_the_wrong_kind(gradient: Any, kind: type[Exception], message: str) -> None:
    x = var()
    with pytest.raises(kind, match=r"backward\(\): " + message):
        (x * 2).backward(gradient)
    assert x.grad is None
    with pytest.raises(kind, match="gradients: " + message):
        ad.gradients(x * 2, x, grad_outputs=[gradient])
    if isinstance(gradient, list):
        message = r"the (cotangent|tangents) have|has structure"
    with pytest.raises(kind, match=message.replace("the gradient", "the cotangent")):
        ad.vjp(lambda x: x * 2, X)[1](gradient)
    with pytest.raises(kind, match=message.replace("the gradient", "the tangent")):
        ad.jvp(lambda x: x * 2, (X,), (gradient,))


@pytest.mark.parametrize("backend", support.params("torch", "array_api_strict", "jax"))
def test_a_gradient_of_another_library(backend: support.Backend) -> None:
    with pytest.raises(
        TypeError,
        match=rf"backward\(\): the gradient is of {'strict|array_api_strict' if 'strict' in backend.name else backend.name}.*numpy",
    ):
        (var() * 2).backward(backend.asarray(np.ones(3)))


def test_a_cotangent_of_another_structure() -> None:
    _, pullback = ad.vjp(lambda x: (x, {"a": x}), X)
    with pytest.raises(TypeError, match=r"vjp\(<lambda>\): the cotangent has structure .*, the output"):
        pullback(X)
    with pytest.raises(TypeError, match=r"jvp\(<lambda>\): the tangents have structure .*, the primals"):
        ad.jvp(lambda p: p["a"], ({"a": X},), ({"b": X},))
    with pytest.raises(TypeError, match=r"jvp.*structure"):
        ad.jvp(lambda x, y: x * y, (X, X), (X,))


def test_backward_twice() -> None:
    x = var()
    y = ad.namespace(x).sin(x).sum()
    y.backward()
    with pytest.raises(errors.GraphFreedError, match=r"reached sum a second time, but its saved arrays were freed.*retain_graph=True"):
        y.backward()


def test_backward_of_a_constant() -> None:
    with pytest.raises(RuntimeError, match=r"backward\(\) of a Variable that does not require grad"):
        var(requires_grad=False).backward()
    with ad.no_grad():
        y = var(2.0) * 2
    with pytest.raises(RuntimeError, match=r"backward\(\) of a Variable that does not require grad"):
        y.backward()


def test_gradients_of_what_has_none() -> None:
    with pytest.raises(RuntimeError, match="an input does not require grad"):
        ad.gradients(var(2.0), var(requires_grad=False))
    with pytest.raises(TypeError, match="gradients takes Variables, not ndarray"):
        ad.gradients(var(2.0), X)
    with pytest.raises(TypeError, match="gradients takes Variables, not ndarray"):
        ad.gradients(X, var(2.0))
    with pytest.raises(ValueError, match="gradients: 2 outputs and 1 grad_outputs"):
        ad.gradients([var(2.0), var(2.0)], var(), grad_outputs=[1.0])


# --- integers and booleans --------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [[1, 2], [True, False], 3, np.asarray([1], "uint8")])
def test_integers_that_require_grad(value: Any) -> None:
    with pytest.raises(
        TypeError, match=r"only floating and complex arrays have gradients; this Variable has dtype (int64|bool|uint8).*astype"
    ):
        ad.Variable(value, requires_grad=True)


@pytest.mark.parametrize(
    ("what", "run"),
    [
        (r"grad\(<lambda>\)", lambda x: ad.grad(lambda x: x.sum())(x)),
        (r"value_and_grad\(<lambda>\)", lambda x: ad.value_and_grad(lambda x: x.sum())(x)),
        (r"vjp\(<lambda>\)", lambda x: ad.vjp(lambda x: x * 2, x)),
        (r"jvp\(<lambda>\)", lambda x: ad.jvp(lambda x: x * 2, (x,), (x,))),
        (r"jacfwd\(<lambda>\)", lambda x: ad.jacfwd(lambda x: x * 2)(x)),
        (r"jacrev\(<lambda>\)", lambda x: ad.jacrev(lambda x: x * 2)(x)),
    ],
)
def test_transformations_of_integers(what: str, run: Callable[[Any], Any]) -> None:
    for value, dtype in ((np.asarray([1, 2]), "int64"), (np.asarray([True]), "bool"), (ad.Variable([1, 2]), "int64")):
        with pytest.raises(
            TypeError, match=rf"{what} differentiates with respect to floating and complex arrays; got dtype {dtype}.*astype"
        ):
            run(value)
    with pytest.raises(TypeError, match=rf"{what} differentiates with respect to arrays and numbers, not str"):
        run("text")


def test_argnums_out_of_range() -> None:
    for argnums, number in ((2, 2), (-3, -3), ((0, 5), 5)):
        with pytest.raises(ValueError, match=rf"grad\(<lambda>\): argnums .* names argument {number}, but the function was called with 2"):
            ad.grad(lambda x, y: x * y, argnums=argnums)(1.0, 2.0)
    with pytest.raises(ValueError, match=r"called with 0 positional arguments"):
        ad.grad(lambda *, x: x)(x=1.0)


def test_functions_that_return_the_wrong_thing() -> None:
    with pytest.raises(TypeError, match=r"grad\(<lambda>\) needs a function that returns one real array of one element; it returned"):
        ad.grad(lambda x: (x, x))(1.0)
    with pytest.raises(TypeError, match=r"one real array of one element"):
        ad.grad(lambda x: None)(1.0)
    with pytest.raises(TypeError, match=r"one real array of one element"):
        ad.grad(lambda x: "text")(1.0)
    with pytest.raises(TypeError, match=r"has_aux=True needs a function that returns \(output, aux\); got Variable"):
        ad.grad(lambda x: x, has_aux=True)(1.0)
    for run in (
        lambda: ad.jvp(lambda x: x, (1.0,), (1.0,), has_aux=True),
        lambda: ad.jacfwd(lambda x: x, has_aux=True)(X),
        lambda: ad.jacrev(lambda x: x, has_aux=True)(X),
    ):
        with pytest.raises(TypeError, match=r"has_aux=True needs a function that returns \(output, aux\)"):
            run()


# --- an op without a rule ---------------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def ruleless() -> Any:
    from agnostic_ad.backends.base import Backend
    from agnostic_ad.op import TABLE, Op

    made = Op("test_ruleless", "x1, x2, /", ["x1", "x2"], vjps=[lambda ct: ct, None], jvps=[lambda ct: ct, None])
    Backend.test_ruleless = lambda self, x1, x2: x1 + 0 * x2  # type: ignore[attr-defined]
    yield made
    del TABLE["test_ruleless"]
    del Backend.test_ruleless  # type: ignore[attr-defined]


def test_an_op_without_a_rule(ruleless: Any) -> None:
    def loss(x: Any) -> Any:
        return ruleless(X, x).sum()

    for run, where in ((lambda: ad.grad(loss)(X), r"grad\(loss\)"), (lambda: ad.jvp(loss, (X,), (X,)), r"jvp\(loss\)")):
        with pytest.raises(
            errors.MissingRuleError,
            match=rf"test_ruleless has no (forward )?derivative with respect to argument 1 \(x2\); reached inside {where}.*stop_gradient\(x2\)",
        ):
            run()
    with pytest.raises(errors.MissingRuleError, match=r"test_ruleless has no derivative with respect to argument 1 \(x2\).*define-by-run"):
        ruleless(X, var())
    assert ad.grad(lambda x: ruleless(x, X).sum())(X).tolist() == [1.0, 1.0, 1.0]
    assert ad.grad(lambda x: ruleless(x, ad.stop_gradient(x)).sum())(X).tolist() == [1.0, 1.0, 1.0]


def test_a_name_that_the_namespace_lacks() -> None:
    xp = ad.differentiable(np)
    with pytest.raises(AttributeError, match=r"agnostic_ad\.reverse\(numpy\) has no 'nonsense': it is neither the standard's nor numpy's"):
        getattr(xp, "nonsense")  # noqa: B009
    with pytest.raises(AttributeError, match=r"has no 'nanmedian': it is not differentiated"):
        getattr(xp, "nanmedian")  # noqa: B009
    assert not hasattr(xp, "nonsense")


# --- arrays outside their transformation ----------------------------------------------------------------------------------------------------------------
def _leak(transform: Callable[[Callable[[Any], Any]], Any]) -> Any:
    kept = []

    def loss(x: Any) -> Any:
        kept.append(x * 2)
        return (x * x).sum()

    transform(loss)
    return kept[0]


TRANSFORMS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "grad": lambda f: ad.grad(f)(X),
    "vjp": lambda f: ad.vjp(f, X),
    "jvp": lambda f: ad.jvp(f, (X,), (X,)),
    "vmap": lambda f: ad.vmap(f)(M),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_array_used_after_its_transformation_returned(name: str) -> None:
    leaked = _leak(TRANSFORMS[name])
    message = rf"an array of {name}\(loss\) \(shape \(3,\), dtype float64\) is used after that transformation returned.*has_aux=True"
    uses: list[Callable[[], Any]] = [
        lambda: leaked + 1,
        lambda: leaked * leaked,
        lambda: -leaked,
        lambda: leaked @ X,
        lambda: leaked.sum(),
        lambda: leaked[0],
        lambda: leaked.__array_namespace__(),
        lambda: ad.namespace(leaked).sin(leaked),
        lambda: leaked + var(),
        lambda: var() * leaked,
        lambda: ad.grad(lambda x: (x * leaked).sum())(X),
        lambda: ad.grad(lambda x: x.sum())(leaked),
        lambda: ad.vmap(lambda x: x)(leaked),
        lambda: float(leaked[0]),
        lambda: leaked.tolist(),
        lambda: leaked > 0,
        lambda: bool(leaked),
        lambda: leaked.reshape(3, 1),
        lambda: ad.stop_gradient(leaked),
    ]
    for position, use in enumerate(uses):
        with pytest.raises(errors.EscapedArrayError, match=message):
            use()
            raise AssertionError(f"use {position} passed")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_array_set_after_its_transformation_returned(name: str) -> None:
    leaked = _leak(TRANSFORMS[name])
    with pytest.raises(errors.EscapedArrayError, match="used after that transformation returned"):
        leaked[0] = 1.0
    with pytest.raises(errors.EscapedArrayError, match="used after that transformation returned"):
        leaked += 1.0


def test_backward_of_an_array_of_a_transformation_that_returned() -> None:
    leaked = _leak(TRANSFORMS["grad"])
    with pytest.raises(errors.EscapedArrayError, match=r"grad\(loss\)"):
        leaked.backward(X)


def test_text_of_a_dead_array_does_not_raise() -> None:
    assert "grad(loss)" in repr(_leak(TRANSFORMS["grad"]))
    assert "vmap(loss)" in repr(_leak(TRANSFORMS["vmap"]))


# --- escapes ---------------------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["grad", "jvp", "vmap"])
def test_conversions_that_would_lose_a_derivative(name: str) -> None:
    def loss(x: Any) -> Any:
        with pytest.raises(
            errors.EscapedArrayError, match=rf"np\.asarray of a \w+ of {name}\(loss\) would silently lose.*detach\(\)\.numpy\(\)|stop_grad"
        ):
            np.asarray(x)
        with pytest.raises(errors.EscapedArrayError, match=rf"__dlpack__ of a \w+ of {name}\(loss\) would silently lose"):
            np.from_dlpack(x)
        return (x * x).sum()

    TRANSFORMS[name](loss)


def test_asarray_of_a_variable() -> None:
    x = var()
    for v in (x, x * 2, ad.namespace(x).sin(x)):
        for run in (np.asarray, np.array, ad.Variable.numpy, lambda v: np.asarray([v[0], v[1]])):
            with pytest.raises(
                errors.EscapedArrayError, match=r"np\.asarray of a Variable.*would silently lose its derivative.*x\.detach\(\)\.numpy\(\)"
            ):
                run(v)
        with pytest.raises(errors.EscapedArrayError, match=r"__dlpack__.*x\.detach\(\)"):
            np.from_dlpack(v)
    assert not hasattr(x, "__cuda_array_interface__") and not hasattr(x, "__array_interface__")


# --- in place ----------------------------------------------------------------------------------------------------------------------------------------------
def test_in_place_change_of_a_leaf() -> None:
    x = var()
    with pytest.raises(RuntimeError, match=r"a leaf Variable that requires grad is changed in place.*no_grad\(\).*x = x \+ 0"):
        x[0] = 1.0


def test_an_outer_array_cannot_hold_an_inner_value() -> None:
    def f(x: Any) -> Any:
        buffer = ad.differentiable(np).zeros(3)
        buffer[0] = x
        return buffer.sum()

    with pytest.raises(errors.EscapedArrayError, match=r"an array of the define-by-run tape cannot hold a value of grad\(f\)"):
        ad.grad(f)(1.0)

    def g(x: Any) -> Any:
        buffer = ad.differentiable(np).zeros(())
        buffer += x
        return buffer

    with pytest.raises(errors.EscapedArrayError, match=r"cannot take a value of grad\(g\) in place"):
        ad.grad(g)(1.0)


def test_a_raw_array_cannot_hold_a_variable() -> None:
    buffer = np.zeros(3)
    with pytest.raises(errors.EscapedArrayError):
        buffer[:] = var() * 2

    def f(x: Any) -> Any:
        buffer[0] = x * 2
        return x

    with pytest.raises(ValueError, match="setting an array element") as caught:  # NumPy's own error, from ours
        ad.grad(f)(2.0)
    assert isinstance(caught.value.__cause__, errors.EscapedArrayError)
    assert not buffer.any()


def test_setitem_of_the_wrong_kind() -> None:
    y = var() * 1
    with pytest.raises(TypeError, match=r"an array of dtype float64 cannot hold values of dtype complex128"):
        y[0] = 1j
    with pytest.raises((ValueError, IndexError)):
        y[:2] = np.ones(3)
    n = ad.Variable([1, 2])
    with pytest.raises(TypeError, match=r"an array of dtype int64 cannot hold values of dtype float64"):
        n[0] = var(2.5)


# --- axes -------------------------------------------------------------------------------------------------------------------------------------------------
AXES: list[tuple[str, Callable[[Any], Any]]] = [
    ("sum: axis 2 is out of bounds for an array of 2 dimensions", lambda v: v.sum(axis=2)),
    ("mean: axis -3 is out of bounds for an array of 2 dimensions", lambda v: v.mean(axis=-3)),
    (r"sum: axis \(0, 0\) names an axis twice", lambda v: v.sum(axis=(0, 0))),
    (r"sum: axis \(1, -1\) names an axis twice", lambda v: v.sum(axis=(1, -1))),
    ("sum: an axis is an integer, not 'rows'", lambda v: v.sum(axis="rows")),
    ("sum: an axis is an integer, not 0.5", lambda v: v.sum(axis=0.5)),
    (r"sum: an axis is an integer, not \{\}", lambda v: v.sum(axis={})),
    (r"max: an axis is an integer, not \[0\]", lambda v: v.max(axis=[[0]])),
    ("argmax: axis 5 is out of bounds", lambda v: v.argmax(axis=5)),
    ("concat: axis 3 is out of bounds", lambda v: ad.namespace(v).concat([v, v], axis=3)),
    ("stack: axis 4 is out of bounds", lambda v: ad.namespace(v).stack([v, v], axis=4)),
    ("expand_dims: axis 4 is out of bounds", lambda v: ad.namespace(v).expand_dims(v, axis=4)),
    ("squeeze: axis 9 is out of bounds", lambda v: ad.namespace(v).squeeze(v, axis=9)),
    ("flip: axis 2 is out of bounds", lambda v: ad.namespace(v).flip(v, axis=2)),
    ("moveaxis: axis 2 is out of bounds", lambda v: ad.namespace(v).moveaxis(v, 2, 0)),
    ("take: axis 2 is out of bounds", lambda v: ad.namespace(v).take(v, np.asarray([0]), axis=2)),
    ("sort: axis 2 is out of bounds", lambda v: ad.namespace(v).sort(v, axis=2)),
    ("cumulative_sum: axis 2 is out of bounds", lambda v: ad.namespace(v).cumulative_sum(v, axis=2)),
]


@pytest.mark.parametrize(("message", "run"), AXES, ids=[m.split(":")[0] + str(i) for i, (m, _) in enumerate(AXES)])
def test_wrong_axes(message: str, run: Callable[[Any], Any]) -> None:
    with pytest.raises(errors.AxisError, match=message):
        run(var(M))
    with pytest.raises(errors.AxisError, match=message):
        ad.grad(lambda v: run(v).sum())(M)


INDICES: list[tuple[str, Any]] = [
    ("index 2 is out of bounds for axis 0", 2),
    ("index -4 is out of bounds for axis 1", (0, -4)),
    ("too many indices", (0, 0, 0)),
    ("one Ellipsis", (..., ...)),
    ("integers, slices.*str", "a"),
    ("integers, slices.*float|integers or booleans", 0.5),
    ("mask of shape", np.asarray([True, False, True])),
    ("integers or booleans, not float64", np.asarray([0.5])),
    ("out of bounds for axis 0", np.asarray([5])),
    ("out of bounds for axis 0", [0, -3]),
]


@pytest.mark.parametrize(("message", "key"), INDICES, ids=[str(i) for i in range(len(INDICES))])
def test_wrong_indices(message: str, key: Any) -> None:
    with pytest.raises(IndexError, match=message):
        var(M)[key]
    y = var(M) * 1
    with pytest.raises(IndexError, match=message):
        y[key] = 1.0


# --- vmap ---------------------------------------------------------------------------------------------------------------------------------------------------
def add(x: Any, y: Any) -> Any:
    return x + y


VMAPS: list[tuple[str, type[Exception], Callable[[], Any]]] = [
    (r"vmap\(add\): the mapped axes have different sizes \(leaf 0: 2, leaf 1: 3\)", ValueError, lambda: ad.vmap(add)(M, X)),
    (r"vmap\(add\): no argument is mapped over", ValueError, lambda: ad.vmap(add, in_axes=None)(M, M)),
    (r"vmap\(add\): in_axes has 3 entries for 2 arguments", ValueError, lambda: ad.vmap(add, in_axes=(0, 0, 0))(M, M)),
    (r"vmap\(add\): axis 2 is out of bounds for an array of 2 dim", errors.AxisError, lambda: ad.vmap(add, in_axes=2)(M, M)),
    (r"vmap\(add\): axis -3 is out of bounds", errors.AxisError, lambda: ad.vmap(add, in_axes=(-3, 0))(M, M)),
    (r"vmap\(add\): in_axes holds integers and None, not 'a'", TypeError, lambda: ad.vmap(add, in_axes=("a", 0))(M, M)),
    (r"vmap\(add\): in_axes holds integers and None, not 0\.5", TypeError, lambda: ad.vmap(add, in_axes=0.5)(M, M)),
    (r"vmap\(add\): in_axes holds integers and None, not True", TypeError, lambda: ad.vmap(add, in_axes=True)(M, M)),
    (r"vmap\(add\): in_axes does not fit the structure", ValueError, lambda: ad.vmap(add, in_axes=((0, 0), 0))(M, M)),
    (r"vmap\(add\): leaf 1 of the arguments is a float, which has no axis 0\. Pass None", TypeError, lambda: ad.vmap(add)(M, 1.0)),
    (r"vmap\(add\): leaf 0 of the arguments is 0-d and has no axis 0", ValueError, lambda: ad.vmap(add)(np.asarray(1.0), M)),
    (r"vmap\(add\): out_axes: axis 3 is out of bounds", errors.AxisError, lambda: ad.vmap(add, out_axes=3)(M, M)),
    (r"vmap\(add\): out_axes is None for an output that differs", ValueError, lambda: ad.vmap(add, out_axes=None)(M, M)),
    (r"vmap\(add\): out_axes does not fit the structure", ValueError, lambda: ad.vmap(add, out_axes=(0, 0))(M, M)),
    (r"vmap\(<lambda>\): an output is a str, not an array", TypeError, lambda: ad.vmap(lambda x: "text")(M)),
    (
        r"bool\(\) of an array batched by vmap\(<lambda>\).*xp\.where",
        errors.UnsupportedError,
        lambda: ad.vmap(lambda x: x if x[0] > 0 else -x)(M),
    ),
    (r"float\(\) takes a value out of vmap\(<lambda>\)", errors.EscapedArrayError, lambda: ad.vmap(lambda x: float(x[0]))(M)),
    (r"nonzero.*vmap|different shapes for the members of a batch", errors.UnsupportedError, lambda: ad.vmap(lambda x: x[x > 0])(M - 2)),
]


@pytest.mark.parametrize(("message", "kind", "run"), VMAPS, ids=[str(i) for i in range(len(VMAPS))])
def test_wrong_vmaps(message: str, kind: type[Exception], run: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=message):
        run()


# --- shapes in operations, as the library says them ------------------------------------------------------------------------------------------------------
def test_shapes_that_do_not_broadcast_are_the_librarys_error() -> None:
    for run in (lambda: var() + np.ones(2), lambda: ad.grad(lambda x: (x * np.ones(2)).sum())(X), lambda: var(M) @ M):
        with pytest.raises(ValueError):
            run()


def test_a_failed_operation_leaves_the_levels_as_they_were() -> None:
    for run in (
        lambda: ad.grad(lambda x: 1 / 0)(1.0),
        lambda: ad.vmap(lambda x: x[9])(M),
        lambda: ad.jvp(lambda x: x.nonsense, (X,), (X,)),
        lambda: ad.hessian(lambda x: ad.vmap(lambda y: y @ M)(x).sum())(X),
    ):
        with pytest.raises((ZeroDivisionError, IndexError, AttributeError, ValueError, RuntimeError)):
            run()
        assert ad.is_grad_enabled()
        assert ad.grad(lambda x: x**3)(2.0) == 12.0
        assert isinstance(ad.namespace(var()).zeros(2), ad.Variable)
        from agnostic_ad.levels import active_level

        assert active_level() is None
