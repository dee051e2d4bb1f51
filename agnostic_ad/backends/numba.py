"""NumPy with compiled passes, where Numba is installed and asked for (`agnostic_ad.use_numba`).

Elementwise functions, an optimizer's update for one, become source for a loop over the elements (`agnostic_ad.backends.expressions`); the rest is
written out in `agnostic_ad.backends.numba_kernels`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.backends import numba_kernels
from agnostic_ad.backends.expressions import NoCodeError, write
from agnostic_ad.backends.numpy import NumpyBackend
from agnostic_ad.backends.numpy_activations import GELU, GELU_TANH

__all__ = ["NumbaBackend", "elementwise", "loop_of"]

_LOOPS: dict[str, Callable[..., Any]] = {}
_LOCK = threading.Lock()
_HEADER = """from math import sqrt

from numpy import ceil, empty, floor, rint, trunc

from agnostic_ad.backends.numba_kernels import add_up, exp, log, tanh, {decorator} as compiled


@compiled
"""


def loop_of(source: str) -> Callable[..., Any]:
    """Compile the function ``loop`` of a piece of source; once, and for later processes too where the folder for caches can be written."""
    with _LOCK:
        found = _LOOPS.get(source)
        if found is None:
            found = _LOOPS[source] = _stored(source) or _executed(source)
    return found


@functools.cache
def _functions() -> str:
    return hashlib.sha256(Path(numba_kernels.__file__).read_bytes()).hexdigest()[:24]


def _stored(source: str) -> Callable[..., Any] | None:
    text = (
        f"# with the functions of {_functions()}\n{_HEADER.format(decorator='compiled')}{source}"  # Numba's cache looks at this text alone
    )
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "agnostic_ad", "loops")
    path = folder / f"_agnostic_ad_{hashlib.sha256(text.encode()).hexdigest()[:24]}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            fresh = path.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, path)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # where Numba looks when it reads its cache
        spec.loader.exec_module(module)
    except (OSError, RuntimeError):  # the latter is Numba's word for a folder that cannot be written
        return None
    return module.loop  # type: ignore[no-any-return]


def _executed(source: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(_HEADER.format(decorator="compiled_here") + source, space)
    return space["loop"]  # type: ignore[no-any-return]


def elementwise(function: Callable[..., Mapping[str, Any]], inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """Run a function of arrays of one floating dtype, each element by itself, and write its results; give those that are no arrays.

    Parameters
    ----------
    function : callable
        ``(xp, arrays) -> results``, both dicts by name.
    inputs, outputs : dict of str to array
        What it takes and where its results go: one-dimensional arrays of one length, the same array for what is written over.

    Raises
    ------
    NoCodeError
        Where the function does what there is no code for.
    """
    code, results, others = write(function, tuple(inputs))
    fresh = {name: y for name, y in outputs.items() if y is not inputs.get(name)}
    arrays = [*inputs.values(), *fresh.values()]
    places = {name: f"a{i}" for i, name in enumerate(inputs)} | {name: f"a{i}" for i, name in enumerate(fresh, start=len(inputs))}
    slots = [f"k{i}" for i in range(len(code.numbers))] + [f"a{i}" for i in range(len(arrays))]
    lines = [f"def loop({', '.join(['zero', 'one', *slots])}):", "    for i in range(a0.size):"]
    lines += [f"        x{i} = a{i}[i]" for i in range(len(inputs))]
    lines += [f"        {line}" for line in code.lines]
    lines += [f"        {places[name]}[i] = {text}" for name, text in results.items()]
    real = arrays[0].dtype.type
    loop_of("\n".join(lines) + "\n")(real(0), real(1), *map(real, code.numbers), *arrays)
    return others


def _served(*arrays: Any) -> bool:
    """Tell whether arrays lie in one piece each, and are all of float32 or all of float64."""
    dtype = arrays[0].dtype
    return dtype.char in "fd" and all(x.dtype == dtype and x.flags.c_contiguous for x in arrays)


class NumbaBackend(NumpyBackend):
    """NumPy, but for what is compiled."""

    executor = "numba"

    def in_one_pass(self, function: Callable[..., Mapping[str, Any]], arrays: dict[str, Any]) -> dict[str, Any] | None:
        """Run an elementwise function, and write its results over the arrays of the same names; None where that cannot be done."""
        if not _served(*arrays.values()):
            return None
        try:
            return elementwise(function, arrays, arrays)
        except NoCodeError:
            return None


# --- activations in single precision ------------------------------------------------------------------------------------------------------
def _horner(coefficients: Sequence[float], x: Any) -> Any:
    *rest, value = coefficients
    for c in reversed(rest):
        value = value * x + c
    return value


def _silu_pull(xp: Any, ct: Any, x: Any) -> Any:
    gate = xp.expit(x)
    return ct * gate * (1 + x * (1 - gate))


def _gelu_tanh_pull(xp: Any, ct: Any, x: Any) -> Any:
    gate = xp.expit(x * _horner(GELU_TANH, x * x))
    return ct * gate * (1 + x * (1 - gate) * _horner((GELU_TANH[0], 3 * GELU_TANH[1]), x * x))


def _gelu_pull(xp: Any, ct: Any, x: Any) -> Any:
    gate = xp.expit(x * _horner(GELU, x * x))
    return ct * (gate + x * xp.exp(x * x * -0.5 - 0.5 * math.log(2 * math.pi)))


ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "nn_silu": lambda xp, x: x * xp.expit(x),
    "nn_silu_pull": _silu_pull,
    "nn_gelu_tanh": lambda xp, x: x * xp.expit(x * _horner(GELU_TANH, x * x)),
    "nn_gelu_tanh_pull": _gelu_tanh_pull,
    "nn_gelu": lambda xp, x: x * xp.expit(x * _horner(GELU, x * x)),
    "nn_gelu_pull": _gelu_pull,
}
"""Formulas as `numpy_activations` has them."""


def _method(name: str) -> Any:
    formula, otherwise = ACTIVATIONS[name], getattr(NumpyBackend, name)

    def method(self: NumbaBackend, *arrays: Any) -> Any:
        first, used = arrays[0], arrays[:2]  # a third is a result that a pull need not compute again; here that is quicker
        if first.size < SMALL or first.dtype.char != "f" or not _served(*used) or any(x.shape != first.shape for x in used):
            return otherwise(self, *arrays)
        y = np.empty_like(first)
        inputs = {str(i): x.reshape(-1) for i, x in enumerate(used)}
        elementwise(lambda xp, given: {"y": formula(xp, *given.values())}, inputs, {"y": y.reshape(-1)})
        return y

    return method


SMALL = 1 << 12
"""Up to so many elements, NumPy's passes take no longer than a call."""
for _name in ACTIVATIONS:
    setattr(NumbaBackend, _name, _method(_name))


# --- standardization --------------------------------------------------------------------------------------------------------------------
def _flat(x: Any, weight: Any) -> Any:
    """Give a weight in one dimension; an empty array where there is none."""
    return np.empty(0, x.dtype) if weight is None else np.ascontiguousarray(weight).reshape(-1)


def _rows(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    width = math.prod(x.shape[axis[0] :])
    if any(a is not None and a.shape != x.shape[axis[0] :] for a in (weight, bias)):
        return NumpyBackend.standardizers["rows"](x, weight, bias, axis, eps, center)  # type: ignore[no-any-return]
    y, (mean, var) = np.empty_like(x), np.empty((2, *x.shape[: axis[0]], *(1,) * len(axis)), x.dtype)
    each = _flat(x, weight), _flat(x, bias)
    numba_kernels.rows(x.reshape(-1, width), *each, x.dtype.type(eps), center, y.reshape(-1, width), mean.reshape(-1), var.reshape(-1))
    return y, mean, var


def _rows_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    width = math.prod(x.shape[axis[0] :])
    if any(a is not None and a.shape != x.shape[axis[0] :] for a in (weight, bias)):
        return NumpyBackend.standardizers["rows_pull"](ct, x, mean, scale, weight, bias, axis, center)  # type: ignore[no-any-return]
    found = {"x": np.empty_like(x)} | {name: np.zeros_like(a) for name, a in (("weight", weight), ("bias", bias)) if a is not None}
    given = (ct.reshape(-1, width), x.reshape(-1, width), mean.reshape(-1), scale.reshape(-1), _flat(x, weight), center)
    numba_kernels.rows_pull(*given, found["x"].reshape(-1, width), _flat(x, found.get("weight")), _flat(x, found.get("bias")))
    return found


def _channels(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    shape = (*x.shape[:2], math.prod(x.shape[2:]))
    y, (mean, var) = np.empty_like(x), np.empty((2, 1, x.shape[1], *(1,) * (x.ndim - 2)), x.dtype)
    each = _flat(x, weight), _flat(x, bias)
    numba_kernels.channels(x.reshape(shape), *each, x.dtype.type(eps), y.reshape(shape), mean.reshape(-1), var.reshape(-1))
    return y, mean, var


def _channels_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    shape = (*x.shape[:2], math.prod(x.shape[2:]))
    dx, (dweight, dbias) = np.empty_like(x), np.empty((2, x.shape[1]), x.dtype)
    given = (ct.reshape(shape), x.reshape(shape), mean.reshape(-1), scale.reshape(-1), _flat(x, weight))
    numba_kernels.channels_pull(*given, dx.reshape(shape), dweight, dbias)
    pairs = (("weight", weight, dweight), ("bias", bias, dbias))
    return {"x": dx} | {name: found.reshape(a.shape) for name, a, found in pairs if a is not None}


NumbaBackend.standardizers = NumpyBackend.standardizers | {
    "rows": _rows,
    "rows_pull": _rows_pull,
    "channels": _channels,
    "channels_pull": _channels_pull,
}
