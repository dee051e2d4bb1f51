"""Constructors that derive an operation's rules, so that most entries of the table are one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.errors import AxisError
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.op import ZERO, Op
from agnostic_ad.samples import Case, elementwise_cases, reduction_cases

__all__ = [
    "MISSING",
    "broadcast_shapes",
    "composite",
    "elementwise",
    "expand_reduced",
    "linear",
    "normalize_axes",
    "normalize_axis",
    "reduction",
    "result_dtype",
    "sum_to_shape",
]

MISSING = object()
"""Stand for a partial derivative that nobody has written: a `MissingRuleError` where one is asked for."""


# --- axes and shapes -------------------------------------------------------------------------------------------------------------
def normalize_axis(axis: Any, ndim: int, what: str) -> int:
    """Give ``axis`` counted from the front, or refuse it."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise AxisError(f"{what}: an axis is an integer, not {axis!r} ({type(axis).__name__})") from None
    if not -ndim <= index < ndim:
        raise AxisError(f"{what}: axis {index} is out of bounds for an array of {ndim} dimension{'s' * (ndim != 1)}")
    return index % ndim if ndim else index


def normalize_axes(axis: Any, ndim: int, what: str) -> tuple[int, ...]:
    """Give one axis, several, or all (None) as a tuple counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is tuple and all([type(a) is int and 0 <= a < ndim for a in axis]) and len(set(axis)) == len(axis):
        return axis  # as it is most often: it was normalized already
    if not isinstance(axis, tuple | list):
        return (normalize_axis(axis, ndim, what),)
    axes = tuple(normalize_axis(a, ndim, what) for a in axis)
    if len(set(axes)) != len(axes):
        raise AxisError(f"{what}: axis {tuple(axis)} names an axis twice")
    return axes


def broadcast_shapes(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the shape that arrays of these shapes broadcast to."""
    out: list[Any] = []
    for position in range(1, max(map(len, shapes), default=0) + 1):
        sizes = [s[-position] for s in shapes if len(s) >= position]
        size = next((n for n in sizes if n != 1), 1)
        if any(n not in (1, size) for n in sizes):
            raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast together")
        out.append(size)
    return tuple(reversed(out))


def sum_to_shape(xp: Any, x: Any, shape: tuple[Any, ...]) -> Any:
    """Sum ``x`` over the axes along which an array of ``shape`` was broadcast: the transpose of broadcasting."""
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1)
    if axes:
        x = xp.sum(x, axis=axes, keepdims=True, dtype=x.dtype)
    return xp.reshape(x, shape) if lead else x


def expand_reduced(xp: Any, x: Any, shape: tuple[Any, ...], axis: tuple[int, ...], keepdims: bool) -> Any:
    """Put back the axes that a reduction over ``axis`` of an array of ``shape`` took away, with size 1."""
    if keepdims or not axis:
        return x
    return xp.reshape(x, tuple(1 if i in axis else n for i, n in enumerate(shape)))


def result_dtype(xp: Any, args: tuple[Any, ...]) -> Any:
    """Give the dtype that arrays or abstract arrays promote to."""
    return xp.result_type(*(a.dtype for a in args if hasattr(a, "dtype")))


def _library_dtype(xp: Any, name: str, kinds: str, dtype: Any, args: Sequence[Any] = (None,), params: dict[str, Any] | None = None) -> Any:
    """Give the dtype of a function's result; of dtypes that the standard leaves out, such as the quotient of integers, the library decides."""
    if xp.kind(dtype) in kinds:
        return dtype
    fn = xp
    for part in name.split("."):
        fn = getattr(fn, part)
    one = xp.ones((1,), dtype=dtype)
    return fn(*(one if a is None or hasattr(a, "shape") else a for a in args), **(params or {})).dtype


# --- elementwise -------------------------------------------------------------------------------------------------------------------
def _elementwise_batch(op: Op) -> Callable[..., Any]:
    def batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
        return op.at(xp)(*align(xp, args, batched), **params)

    return batch


def align(xp: Any, args: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
    """Put size-1 axes behind the batch axis, so that operands with it broadcast against each other and against others."""
    ndim = max((a.ndim - b for a, b in zip(args, batched, strict=True) if hasattr(a, "ndim")), default=0)
    return [
        xp.reshape(a, (a.shape[0], *(1,) * (ndim - a.ndim + 1), *a.shape[1:])) if b and a.ndim <= ndim else a
        for a, b in zip(args, batched, strict=True)
    ]


def _elementwise_abstract(name: str, result: str, kinds: str) -> Callable[..., Any]:
    def abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
        arrays = [a for a in args if hasattr(a, "shape")]
        shape = broadcast_shapes(*(a.shape for a in arrays))
        if result == "bool":
            return ShapeDtype(shape, xp.dtype("bool"))
        dtype = arrays[0].dtype if result == "first" else _library_dtype(xp, name, kinds, result_dtype(xp, args), args, params)
        return ShapeDtype(shape, xp.real_of(dtype) if result == "real" else dtype)

    return abstract


def elementwise(
    name: str,
    *partials: Any,
    vjps: Sequence[Any] = (),
    jvps: Sequence[Any] = (),
    signature: str = "",
    nin: int = 0,
    result: str = "promote",
    domain: Any = (-3.0, 3.0),
    kinds: str = "fc",
    operators: tuple[str, ...] = (),
    batch: Callable[..., Any] | None = None,
) -> Op:
    """Make an elementwise operation.

    Parameters
    ----------
    name : str
        Its name.
    *partials : number, callable or None
        The partial derivative with respect to each operand: a number; the name of an operand; a function of what it names (``x``, or ``x1`` and ``x2``,
        ``y`` the result, ``xp``); a function that names ``ct`` too and gives the product with it (fewer roundings); None for zero; `MISSING` for none.
    vjps, jvps : sequence of callable
        In place of partials, for functions that are not holomorphic.
    signature : str
        By default ``x, /`` or ``x1, x2, /``, by the number of partials or ``nin``.
    result : {"promote", "bool", "real", "first"}
        The dtype of the result.
    domain : samples.Domain as a tuple, or one per operand
        Where the conformance catalogue draws operands from.
    kinds : str
        The kinds of dtype that the standard allows: letters of "bifc".
    operators : tuple of str
        The names of Python's methods for it, such as ``("__add__", "__radd__")``.
    """
    count = nin or len(partials) or len(vjps) or 1
    arrays = ["x"] if count == 1 else ["x1", "x2"] if count == 2 and not signature else _operands(signature)
    rules = [ZERO if p is None else None if p is MISSING else p for p in partials]
    if rules:
        vjps = jvps = rules
    op = Op(
        name,
        signature or ", ".join(arrays) + ", /",
        arrays,
        vjps=vjps,
        jvps=jvps,
        derive=bool(rules),
        abstract=_elementwise_abstract(name, result, kinds),
        elementwise=True,
        scalars=count > 1,
        operators=operators,
        cases=elementwise_cases(count, domain, kinds, first="b" if arrays[0] == "condition" else ""),
    )
    op.batch = batch or _elementwise_batch(op)
    return op


def _operands(signature: str) -> list[str]:
    return [p.split("=")[0].strip() for p in signature.partition("/")[0].split(",") if p.strip()]


def strong_product(xp: Any, ct: Any, product: Any) -> Any:
    """Give the product of a cotangent (or tangent) and a derivative, but zero wherever the former is."""
    return xp.where(ct == 0, xp.zeros((), dtype=product.dtype, device=device_of(product)), product)


# --- reductions --------------------------------------------------------------------------------------------------------------------
def _reduction_prepare(name: str, single: bool) -> Callable[..., Any]:
    def prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        x, axis = args[0], params["axis"]
        if not (isinstance(x, Array) or lookup(x) is not None) or (single and axis is None):
            return args, params
        if single:
            return args, {**params, "axis": normalize_axis(axis, len(x.shape), name)}
        return args, {**params, "axis": normalize_axes(axis, len(x.shape), name)}

    return prepare


def _reduction_batch(op: Op) -> Callable[..., Any]:
    def batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
        (x,), axis = args, params["axis"]
        if isinstance(axis, tuple):
            return op.at(xp)(x, **{**params, "axis": tuple(a + 1 for a in axis)})
        if axis is not None:
            return op.at(xp)(x, **{**params, "axis": axis + 1})
        # one index over all axes: flatten what is not the batch
        flat = op.at(xp)(xp.reshape(x, (size, math.prod(x.shape[1:]))), **{**params, "axis": 1, "keepdims": False})
        return xp.reshape(flat, (size, *(1,) * (x.ndim - 1))) if params.get("keepdims") else flat

    return batch


def _reduction_abstract(name: str, dtype_rule: str, kinds: str) -> Callable[..., Any]:
    def abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
        (x,), axis = args, params["axis"]
        axes = normalize_axes(axis, x.ndim, "reduction")
        keep = params.get("keepdims", False)
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
        if dtype_rule in ("bool", "index"):
            return ShapeDtype(shape, xp.dtype("bool") if dtype_rule == "bool" else xp.default("indexing"))
        if dtype_rule == "real":
            return ShapeDtype(shape, xp.real_of(_library_dtype(xp, name, kinds, x.dtype)))
        wanted = params.get("dtype")
        return ShapeDtype(shape, accumulator(xp, x.dtype, wanted) if dtype_rule == "sum" else _library_dtype(xp, name, kinds, x.dtype))

    return abstract


_CHOICES: dict[str, Any] = {"dtype": "dtype", "correction": (0.0, 0.5)}  # of parameters that some reductions have: what samples give them


def accumulator(xp: Any, dtype: Any, wanted: Any) -> Any:
    """Give the dtype of a sum: small integers widen to the default one, as the standard says."""
    if wanted is not None or xp.kind(dtype) in "fc":
        return dtype if wanted is None else wanted
    return xp.sum(xp.zeros((1,), dtype=dtype)).dtype


def reduction(
    name: str,
    partial: Any = None,
    *,
    signature: str = "x, /, *, axis=None, keepdims=False",
    result: str = "same",
    single: bool = False,
    down: str = "",
    empty: bool = False,
    domain: Any = (-3.0, 3.0),
    kinds: str = "fc",
    cases: Sequence[Case] = (),
) -> Op:
    """Make a reduction over axes.

    Parameters
    ----------
    partial : number or callable, optional
        The derivative of the result with respect to each element: an array that broadcasts with ``x``, from what it names (``x``, ``y``
        with its axes kept, ``axis`` as a tuple, ``x_shape``, ``xp``, ...); a function that names ``ct`` too and gives the product with it
        (fewer roundings), beside ``down``. None: the result carries no derivative.
    result : {"same", "sum", "real", "bool", "index"}
        The dtype of the result: the operand's, that of a sum, real also for complex operands, boolean, or the default index. Where it is
        real, ``partial`` is the gradient.
    single : bool
        Whether ``axis`` is one axis or None, rather than several.
    down : str
        An expression for the result's tangent, where the sum of ``ct`` times the partial is not the best.
    empty : bool
        Whether it is defined for no elements at all.
    domain, kinds
        As for `elementwise`.
    cases : sequence of Case
        The conformance catalogue's rows beyond those of every reduction.
    """
    vjps: list[Any] = []
    jvps: list[Any] = []
    if partial is not None:
        if callable(partial):
            needs = partial.__code__.co_varnames[: partial.__code__.co_argcount]
            given = ", ".join(f"expand(xp, {n}, x_shape, axis, keepdims)" if n in ("y", "ct") else n for n in needs)
            times, extra = f" * f({given})", "".join(f", {n}" for n in needs if n not in ("xp", "ct", "axis", "keepdims", "x_shape"))
        else:
            times, extra = "" if partial == 1 else f" * {partial!r}", ""
        scope: dict[str, Any] = {"expand": expand_reduced, "f": partial}
        whole = callable(partial) and "ct" in needs
        up = f"xp.broadcast_to({times.removeprefix(' * ') if whole else f'expand(xp, ct, x_shape, axis, keepdims){times}'}, x_shape)"
        if result == "real":
            down = f"xp.sum(xp.real(xp.conj(ct){times}), axis=axis, keepdims=keepdims)"
        down = down or f"xp.sum(ct{times}, axis=axis, keepdims=keepdims)"
        extra_down = ", dtype" if "dtype" in down else extra
        vjps = [eval(f"lambda xp, ct, x_shape, axis, keepdims{extra}: {up}", scope)]
        jvps = [eval(f"lambda xp, ct, x_shape, axis, keepdims{extra_down}: {down}", scope)]
    op = Op(
        name,
        signature,
        ["x"],
        vjps=vjps,
        jvps=jvps,
        prepare=_reduction_prepare(name, single),
        abstract=_reduction_abstract(name, result, kinds),
        cases=[*reduction_cases(domain, kinds, single, empty, {p: v for p, v in _CHOICES.items() if p in signature}), *cases],
    )
    op.batch = _reduction_batch(op)
    return op


# --- linear and composite --------------------------------------------------------------------------------------------------------
def linear(
    name: str,
    signature: str,
    transpose: Callable[..., Any],
    *,
    arrays: Sequence[str] = ("x",),
    prepare: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
    abstract: Callable[..., Any] | None = None,
    accumulate: Callable[..., Any] | None = None,
    cases: Sequence[Case] = (),
) -> Op:
    """Make an operation that is linear in its one differentiable operand, the first.

    Parameters
    ----------
    transpose : callable
        The cotangent of the operand from that of the result (for complex arrays, the adjoint).
    arrays : sequence of str
        The operands; those after the first carry no derivative.
    """

    def pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return op.invoke(op.at(xp), (), (tangents[0], *args[1:]), params)

    op = Op(
        name,
        signature,
        arrays,
        vjps=[transpose, *(ZERO for _ in arrays[1:])],
        pushforward=pushforward,
        prepare=prepare,
        batch=batch,
        abstract=abstract,
        accumulate=accumulate,
        cases=cases,
    )
    return op


def composite(
    name: str, signature: str, arrays: Sequence[str], cases: Sequence[Case] = (), **options: Any
) -> Callable[[Callable[..., Any]], Op]:
    """Make the decorated function of ``(xp, *operands, **params)`` an operation.

    Raw arrays go to the library's own function where it has one; in every transformation the function itself runs.
    """

    def wrap(fn: Callable[..., Any]) -> Op:
        return Op(name, signature, arrays, composite=fn, cases=cases, **options)

    return wrap
