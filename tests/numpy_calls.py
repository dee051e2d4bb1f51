"""Calls of NumPy's functions, by name: the table that the tests of the drop-in namespace and of NumPy's protocols go through.

Every array of real or complex floating numbers in a call, in nested lists too, is differentiated with respect to; integers and booleans are
constants. Values keep away from places where a derivative jumps.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np


def words(text: str) -> list[str]:
    return text.split()


def R(*shape: int, low: float = 0.3, high: float = 2.0) -> Any:
    """Distinct numbers between bounds."""
    size = int(np.prod(shape))
    grid = np.linspace(low, high, size + 1)[:size] + (high - low) / (size + 1) * 0.3
    return np.random.default_rng(zlib.crc32(repr((shape, low, high)).encode())).permutation(grid).reshape(shape)


def S(*shape: int) -> Any:
    """Numbers of both signs, none near zero."""
    x = R(*shape)
    return np.asarray(x * np.where(np.arange(x.size) % 2, -1.0, 1.0).reshape(shape))


def C(*shape: int) -> Any:
    """Complex numbers."""
    return S(*shape) + 1j * R(*shape, low=0.4, high=1.5)


def P(n: int) -> Any:
    """A positive definite matrix."""
    a = S(n, n)
    return a @ a.T + n * np.eye(n)


@dataclass(frozen=True)
class Call:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    batch: bool = True  # whether a batch of it is defined: not where a shape or a branch depends on values
    symmetric: bool = False  # whether matrices are made Hermitian first: NumPy reads one triangle, and gradients are Hermitian

    def __repr__(self) -> str:
        def short(x: Any) -> str:
            if isinstance(x, np.ndarray):
                return f"{x.dtype.char}{list(x.shape)}"
            if isinstance(x, list | tuple):
                return "[" + ",".join(map(short, x)) + "]"
            return "f" if callable(x) and not isinstance(x, type) else str(x)  # workers of pytest must agree on the names

        return ",".join([*map(short, self.args), *(f"{k}={short(v)}" for k, v in self.kwargs.items())])


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


def hermitian(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs, symmetric=True)


def dynamic(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs, batch=False)


A = np.asarray
CALLS: dict[str, list[Call]] = {}

# --- universal functions ------------------------------------------------------------------------------------------------------------------------
for _name in words("""absolute abs fabs negative positive exp exp2 expm1 sin cos tan arctan atan sinh cosh tanh arcsinh asinh square deg2rad radians rad2deg
        degrees cbrt sign floor ceil trunc rint fix"""):
    CALLS[_name] = [call(S(3)), call(S(2, 2)[:, ::-1])]
CALLS["tan"] = [call(S(3) / 2)]
for _name in words("log log2 log10 log1p sqrt reciprocal"):
    CALLS[_name] = [call(R(3))]
for _name in words("arcsin arccos asin acos arctanh atanh"):
    CALLS[_name] = [call(S(3) / 3)]
for _name in words("arccosh acosh"):
    CALLS[_name] = [call(R(3) + 1.5)]
for _name in words("conj conjugate real imag angle"):
    CALLS[_name] = [call(C(3)), call(S(2))]
for _name in words("sin exp log sqrt square multiply divide power absolute tanh arcsin reciprocal negative"):
    CALLS.setdefault(_name, []).append(call(C(2), C(2)) if _name in ("multiply", "divide", "power") else call(C(2) / 2))
for _name in words("add subtract maximum minimum fmax fmin logaddexp logaddexp2 arctan2 atan2 hypot copysign"):
    CALLS[_name] = [call(S(2, 2), S(2)), call(S(3), 0.7), call(1, S(2))]
CALLS["multiply"] += [call(S(2, 1), S(3)), call(S(3), 2)]
for _name in words("divide true_divide power pow float_power remainder mod fmod floor_divide heaviside"):
    CALLS.setdefault(_name, []).extend([call(R(2, 2), R(2, low=2.1, high=2.6)), call(R(3), 2.3)])
CALLS["fmod"].append(call(np.asarray([-5.5, 5.5, -3.2]), np.asarray([2.0, -2.0, 1.5])))
CALLS["nextafter"] = [call(S(2), 5.0)]
CALLS["ldexp"] = [call(S(3), A([1, -2, 3]))]
CALLS["frexp"] = [call(S(3) * A([0.1, 8.0, 1.0]))]
CALLS["modf"] = [call(S(3) * 3)]
CALLS["divmod"] = [call(S(3), 0.6)]
CALLS["sinc"] = [call(S(3)), call(np.asarray([0.0, 0.1, -0.2])), call(np.asarray(0.0))]
CALLS["i0"] = [call(S(3))]
CALLS["matmul"] = [call(S(2, 3), S(3, 2)), call(S(3), S(3)), call(S(2, 2, 3), S(3))]
CALLS["vecdot"] = [call(S(2, 3), S(3)), call(C(3), C(3))]
CALLS["matvec"] = [call(S(2, 3), S(3))]
CALLS["vecmat"] = [call(S(2), S(2, 3)), call(C(2), C(2, 2))]

# --- reductions ---------------------------------------------------------------------------------------------------------------------------------
_where = A([[True, False, True], [False, True, True]])
for _name in words("sum prod mean"):
    CALLS[_name] = [
        call(S(2, 3)), call(S(2, 3), 1), call(S(2, 3), axis=(0, 1), keepdims=True), call(S(2, 3), axis=-1, where=_where), call(C(2, 2), 0), call([S(2), S(2)]),
    ]  # fmt: skip
CALLS["sum"] += [call(S(3), initial=2.0), call(S(2, 3), None, np.float64)]
CALLS["prod"] += [call(S(3), initial=2.0), call(A([1.0, 0.0, 2.0])), call(A([0.0, 0.0, 2.0]))]
for _name in words("max min amax amin"):
    CALLS[_name] = [
        call(S(2, 3)),
        call(S(2, 3), axis=1, keepdims=True),
        call(S(3), initial=0.1),
        call(S(2, 3), axis=1, initial=0.1, where=_where),
    ]
for _name in words("var std"):
    CALLS[_name] = [
        call(S(2, 3)), call(S(2, 3), axis=1, ddof=1), call(S(2, 3), axis=0, keepdims=True), call(C(3)), call(S(2, 3), where=_where), call(S(3), correction=1),
    ]  # fmt: skip
CALLS["ptp"] = [call(S(2, 3)), call(S(2, 3), axis=0)]
CALLS["average"] = [
    call(S(3)),
    call(S(2, 3), axis=1, weights=R(3)),
    call(S(2, 3), weights=R(2, 3)),
    call(S(3), weights=R(3), returned=True),
]
for _name in words("cumsum cumprod"):
    CALLS[_name] = [call(S(2, 3)), call(S(2, 3), axis=1)]
for _name in words("cumulative_sum cumulative_prod"):
    CALLS[_name] = [call(S(3)), call(S(2, 3), axis=-1, include_initial=True)]
_nan = S(2, 3)
_nan[0, 1] = np.nan
for _name in words("nansum nanprod nanmean nanvar nanstd nanmax nanmin nanmedian"):
    CALLS[_name] = [call(S(2, 3)), call(S(2, 3), axis=1), call(S(3), keepdims=True)]
for _name in words("nancumsum nancumprod"):
    CALLS[_name] = [call(S(2, 3)), call(S(2, 3), axis=0)]
CALLS["median"] = [call(S(5)), call(S(2, 4), axis=1), call(S(2, 3), axis=(0, 1), keepdims=True)]
CALLS["quantile"] = [call(S(5), 0.3), call(S(2, 4), A([0.2, 0.7]).tolist(), axis=1), call(S(4), 0.4, keepdims=True)] + [
    call(S(5), [0.1, 0.4, 0.85], method=m)
    for m in words("""inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull linear median_unbiased
        normal_unbiased lower higher midpoint nearest""")
]
CALLS["percentile"] = [call(S(5), 30), call(S(2, 4), [20, 70], axis=0)]
CALLS["nanquantile"] = [call(S(2, 4), 0.3, axis=1), call(S(5), [0.2, 0.9])]
CALLS["nanpercentile"] = [call(S(5), 30)]

# --- shapes -------------------------------------------------------------------------------------------------------------------------------------
CALLS["reshape"] = [call(S(2, 3), (3, 2)), call(S(2, 3), -1), call(S(2, 3), (3, 2), order="F")]
CALLS["ravel"] = [call(S(2, 3)), call(S(2, 3), order="F")]
CALLS["transpose"] = [call(S(2, 3)), call(S(2, 1, 3), (1, 2, 0))]
CALLS["permute_dims"] = [call(S(2, 3), (1, 0))]
CALLS["matrix_transpose"] = [call(S(2, 2, 3))]
CALLS["swapaxes"] = [call(S(2, 1, 3), 0, -1)]
CALLS["moveaxis"] = [call(S(2, 1, 3), 0, -1), call(S(2, 1, 3), [0, 1], [-1, 0])]
CALLS["rollaxis"] = [call(S(2, 1, 3), 2), call(S(2, 1, 3), 0, 3), call(S(2, 1, 3), -1, 1)]
CALLS["expand_dims"] = [call(S(2), 0), call(S(2), (0, -1))]
CALLS["squeeze"] = [call(S(1, 2, 1)), call(S(1, 2, 1), 0), call(S(1, 2, 1), axis=(0, 2))]
CALLS["atleast_1d"] = [call(S()), call(S(2), S())]
CALLS["atleast_2d"] = [call(S()), call(S(2)), call(S(2, 2))]
CALLS["atleast_3d"] = [call(S()), call(S(2)), call(S(2, 2)), call(S(1, 2, 1))]
for _name in words("concatenate concat"):
    CALLS[_name] = [call([S(2), S(3)]), call((S(2, 1), S(2, 2)), axis=1), call([S(2, 2), S(1)], axis=None)]
CALLS["stack"] = [call([S(2), R(2)]), call((S(2), R(2)), axis=-1)]
CALLS["vstack"] = [call([S(2), R(2)]), call([S(1, 2), S(2, 2)])]
if hasattr(np, "row_stack"):
    CALLS["row_stack"] = []
CALLS["hstack"] = [call([S(2), S(3)]), call([S(2, 1), S(2, 2)])]
CALLS["dstack"] = [call([S(2), R(2)]), call([S(2, 2), R(2, 2)])]
CALLS["column_stack"] = [call([S(2), S(2, 2)])]
CALLS["append"] = [call(S(2), S(3)), call(S(2, 2), S(1, 2), axis=0), call(S(2), 3.0)]
CALLS["block"] = [call([[S(2, 2), S(2, 1)], [S(1, 2), S(1, 1)]]), call([S(2), S(3)])]
CALLS["split"] = [call(S(4), 2), call(S(2, 5), [1, 3], axis=1)]
CALLS["array_split"] = [call(S(5), 3), call(S(5), [2])]
CALLS["vsplit"] = [call(S(4, 1), 2)]
CALLS["hsplit"] = [call(S(4), 2), call(S(1, 4), [1])]
CALLS["dsplit"] = [call(S(1, 1, 4), 2)]
CALLS["unstack"] = [call(S(2, 3)), call(S(2, 3), axis=1)]
CALLS["tile"] = [call(S(2), 2), call(S(2), (2, 1)), call(S(2, 2), (1, 2))]
CALLS["repeat"] = [call(S(2), 2), call(S(2, 2), 2, axis=1), call(S(3), A([0, 2, 1]), axis=0)]
CALLS["roll"] = [call(S(4), 1), call(S(2, 3), -1, axis=1), call(S(2, 3), (1, 2), axis=(0, 1))]
CALLS["flip"] = [call(S(2, 3)), call(S(2, 3), 1)]
CALLS["flipud"] = [call(S(2, 3))]
CALLS["fliplr"] = [call(S(2, 3))]
CALLS["rot90"] = [call(S(2, 3), k) for k in (0, 1, 2, 3)] + [call(S(1, 2, 3), 1, (1, 2))]
CALLS["broadcast_to"] = [call(S(3), (2, 3))]
CALLS["broadcast_arrays"] = [call(S(3), S(2, 1))]
CALLS["meshgrid"] = [call(S(2), S(3)), call(S(2), S(3), sparse=True), call(S(2), S(3), indexing="ij")]
CALLS["resize"] = [call(S(3), (2, 4)), call(S(3), 2)]
CALLS["pad"] = [
    call(S(3), 2), call(S(2, 2), ((1, 0), (0, 2))), call(S(3), (1, 2), constant_values=3.0), call(S(2, 2), 1, "constant", constant_values=((1, 2), (3, 4))),
] + [call(S(3), (1, 2), mode=m) for m in words("edge reflect symmetric wrap linear_ramp maximum minimum mean median")] + [
    call(S(2, 3), 2, mode="reflect"), call(S(3), 2, "linear_ramp", end_values=(1.0, 5.0)), call(S(4), 1, "mean", stat_length=2), call(S(2, 2), {1: (1, 2)}),
]  # fmt: skip

# --- choosing and sorting -----------------------------------------------------------------------------------------------------------------------
CALLS["where"] = [call(A([True, False, True]), S(3), R(3)), call(A([True, False]), S(2), 0.0), call(A([True, False]), 1.0, S(1))]
CALLS["select"] = [call([A([True, False, False]), A([True, True, False])], [S(3), R(3)], 5.0)]
CALLS["piecewise"] = [dynamic(S(4), [A([True, False, False, True])], [lambda x: x * x, lambda x: x * x * x])]
CALLS["choose"] = [call(A([0, 1, 0]), [S(3), R(3)])]
CALLS["take"] = [call(S(4), A([1, 1, -1])), call(S(2, 3), A([[0, 2]]), axis=1), call(S(4), 2), call(S(4), A([7, -9]), mode="clip")]
CALLS["take_along_axis"] = [call(S(2, 3), A([[0, 2], [1, 1]]), axis=1), call(S(3), A([1]), None)]
CALLS["compress"] = [call(A([True, False, True]), S(3)), call(A([True, False]), S(2, 2), axis=1)]
CALLS["extract"] = [call(A([True, False, True]), S(3))]
CALLS["delete"] = [call(S(4), 1), call(S(2, 3), [0, 2], axis=1), call(S(4), slice(0, 2))]
CALLS["insert"] = [
    call(S(3), 1, 5.0),
    call(S(3), [0, 2, 2], S(3)),
    call(S(2, 2), 1, S(2), axis=1),
    call(S(2, 2), [1], S(2, 1), axis=1),
    call(S(4), slice(0, 2), S(2)),
]
CALLS["trim_zeros"] = [dynamic(A([1.0, 2.0]))]
CALLS["sort"] = [call(S(4)), call(S(2, 3), axis=0), call(S(2, 3), axis=None)]
CALLS["partition"] = [call(S(2), 1)]
CALLS["sort_complex"] = [call(S(3))]
CALLS["unique"] = [dynamic(S(4)), dynamic(A([[2.0, 1.0], [3.0, 4.0]]), return_index=True, return_inverse=True, return_counts=True)]
CALLS["union1d"] = [dynamic(A([2.0, 1.0]), A([3.0, 1.5]))]
CALLS["nan_to_num"] = [call(S(3))]
CALLS["real_if_close"] = [dynamic(C(2)), dynamic(S(2))]
CALLS["clip"] = [call(S(4), -0.9, 0.95), call(S(4), None, 0.7), call(S(3), S(3) - 5.0, 9.0), call(S(4), min=0.5)]
CALLS["round"] = [call(S(3)), call(S(3), 1), call(S(3) * 100, -1)]
CALLS["around"] = [call(S(3), decimals=1)]

# --- making -------------------------------------------------------------------------------------------------------------------------------------
CALLS["array"] = [call(S(3)), call([S(), 1.0, S()]), call([[S(), 2], [3, R()]]), call([S(2), R(2)]), call(S(2), ndmin=3)]
for _name in words("asarray asanyarray ascontiguousarray asarray_chkfinite copy"):
    CALLS[_name] = [call(S(2, 2))]
CALLS["astype"] = [call(S(2), np.float64), call(S(2), np.complex128)]
CALLS["full"] = [call((2, 2), S())]
CALLS["full_like"] = [call(np.ones(3, dtype=int) * 1.0, S())]
CALLS["linspace"] = [call(S(), R(), 3), call(S(2), 5.0, 3, axis=1), call(S(), 1.0, 3, endpoint=False), call(S(), R(), 4, retstep=True)]
CALLS["logspace"] = [call(S(), R(), 3), call(S(), 1.0, 3, base=2.0)]
CALLS["geomspace"] = [call(R(), 5.0, 4)]
CALLS["apply_along_axis"] = [call(lambda row: row * row, 1, S(2, 3)), call(lambda row: row.sum(), 0, S(2, 3))]
CALLS["apply_over_axes"] = [call(lambda x, axis: x.sum(axis=axis), S(2, 3), [0, 1])]

# --- products -----------------------------------------------------------------------------------------------------------------------------------
CALLS["dot"] = [
    call(S(3), S(3)),
    call(S(2, 3), S(3)),
    call(S(2, 2), S(2, 2)),
    call(2.0, S(3)),
    call(S(1, 2, 2), S(1, 2, 2)),
    call(C(2), C(2)),
]
CALLS["vdot"] = [call(S(2, 2), S(2, 2)), call(C(3), C(3))]
CALLS["inner"] = [call(S(3), S(3)), call(S(2, 3), S(1, 3)), call(S(3), 2.0)]
CALLS["outer"] = [call(S(2), S(3)), call(S(2, 2), S(2))]
CALLS["tensordot"] = [call(S(2, 3), S(3, 2), 1), call(S(2, 3), S(3, 2), ([0, 1], [1, 0])), call(S(2), S(2), axes=0)]
CALLS["kron"] = [call(S(2), S(3)), call(S(2, 2), S(1, 2)), call(S(2, 1), S(2))]
CALLS["einsum"] = [
    call("ij,jk->ik", S(2, 3), S(3, 2)), call(S(2, 3), [0, 1], S(3), [1], [0]), call("ii", S(3, 3)), call("...i,...i", S(2, 3), S(3)), call("i,i,i->", S(2), R(2), S(2)),
]  # fmt: skip
CALLS["diagonal"] = [call(S(3, 3)), call(S(2, 3), 1), call(S(3, 2), -1), call(S(2, 2, 3), 0, 1, 2)]
CALLS["trace"] = [call(S(3, 3)), call(S(3, 3), 1), call(S(2, 2, 2), axis1=1, axis2=2)]
CALLS["diag"] = [call(S(3)), call(S(2), 1), call(S(2), -2), call(S(3, 3)), call(S(2, 3), 1)]
CALLS["diagflat"] = [call(S(2, 2))]
CALLS["tril"] = [call(S(3, 3)), call(S(2, 3), 1)]
CALLS["triu"] = [call(S(3, 3)), call(S(2, 3), -1)]
CALLS["cross"] = [call(S(3), R(3)), call(S(2, 3), R(3)), call(S(3, 2), R(3, 2), axis=0)]
CALLS["convolve"] = [
    call(S(4), S(3)),
    call(S(4), S(2), "same"),
    call(S(4), S(3), "same"),
    call(S(4), S(2), "valid"),
    call(S(2), S(3)),
    call(C(3), C(2)),
    call(S(2), S(4), "same"),
]
CALLS["correlate"] = [
    call(S(4), S(2)), call(S(4), S(3), "full"), call(S(4), S(2), "same"), call(S(4), S(3), "same"), call(S(2), S(4), "same"), call(S(3), S(4), "full"), call(C(3), C(2), "full"),
    call(S(3), S(4), "same"), call(S(2), S(5), "valid"),
]  # fmt: skip
CALLS["cov"] = [
    call(S(2, 4)),
    call(S(4)),
    call(S(4), R(4)),
    call(S(3, 2), rowvar=False),
    call(S(2, 3), bias=True),
    call(S(2, 3), aweights=R(3)),
    call(S(2, 3), fweights=A([1, 2, 1])),
    call(C(2, 3)),
]
CALLS["corrcoef"] = [call(S(2, 4)), call(S(4), R(4))]
CALLS["polyval"] = [call(S(3), S(2)), call(S(3), 2.0)]
CALLS["polyadd"] = [call(S(3), S(2))]
CALLS["polysub"] = [call(S(2), S(3))]
CALLS["polymul"] = [call(S(3), S(2))]
CALLS["polyder"] = [call(S(4)), call(S(4), 2)]
CALLS["polyint"] = [call(S(3)), call(S(3), 2, k=[1.0, 2.0])]
CALLS["poly"] = [call(S(3)), dynamic(A([[1.0, -2.0], [1.5, 0.5]])), call(C(2)), dynamic(A([[2.0, 1.0], [0.5, 3.0]]))]
CALLS["vander"] = [call(S(3)), call(S(2), 3, increasing=True)]
CALLS["diff"] = [call(S(4)), call(S(3, 2), 2, 0), call(S(3), prepend=0.0, append=S(2))]
CALLS["ediff1d"] = [call(S(2, 2)), call(S(3), to_end=S(2), to_begin=1.0)]
CALLS["trapezoid"] = [call(S(4)), call(S(2, 4), R(4)), call(S(4, 2), dx=0.5, axis=0), call(S(2, 3), R(2, 3))]
CALLS["gradient"] = [
    call(S(4)), call(S(3, 3)), call(S(4), 0.5), call(S(4), A([0.0, 0.4, 1.0, 2.2])), call(S(4), edge_order=2), call(S(3, 4), axis=1), call(S(3, 3), 0.5, 2.0, axis=(1, 0)), call(S(4), A([0.0, 0.4, 1.0, 2.2]), edge_order=2),
]  # fmt: skip
CALLS["interp"] = [
    call(A([0.3, 1.4, 2.6]), A([0.0, 1.0, 2.0, 3.0]), S(4)), call(A([-1.0, 5.0, 0.4]), A([0.0, 1.0]), S(2)), call(A([-1.0, 5.0]), A([0.0, 1.0]), S(2), left=7.0, right=8.0),
    call(A([0.3, 3.4]), A([0.1, 1.0, 1.7]), S(3), period=2.0),
]  # fmt: skip
CALLS["unwrap"] = [
    call(A([0.0, 3.0, 6.5, 9.9])),
    call(A([[0.1, 4.0, -4.0], [0.2, 5.0, 0.0]]), axis=1),
    call(A([0.0, 3.0, 7.0]), period=5.0),
]
CALLS["bincount"] = [dynamic(A([0, 2, 2, 1]), weights=S(4))]
CALLS["roots"] = [dynamic(A([1.0, -2.0, -3.75, 2.25]))]
CALLS["polyfit"] = [Call((A([0.0, 1.0, 2.0, 3.5]), S(4), 2), {}), Call((A([0.0, 1.0, 2.0, 3.5]), S(4), 1), {"w": R(4)})]

# --- numpy.linalg -------------------------------------------------------------------------------------------------------------------------------
CALLS["linalg.norm"] = [
    call(S(3)), call(S(2, 3)), call(S(2, 3), axis=1), call(S(2, 3), "fro"), call(S(3), 1), call(S(3), np.inf), call(S(3), 3), call(S(2, 3), "nuc"), call(S(2, 3), 2), call(S(2, 2, 2), axis=(0, 2)), call(S(2, 3), keepdims=True), call(C(3)),
]  # fmt: skip
CALLS["linalg.inv"] = [call(P(2)), call(np.stack([P(2), P(2) + S(2, 2)])), call(C(2, 2))]
CALLS["linalg.det"] = [call(P(3)), call(np.stack([P(2), P(2) + S(2, 2)]))]
CALLS["linalg.slogdet"] = [call(P(3))]
CALLS["linalg.pinv"] = [call(S(3, 2)), call(P(2))]
CALLS["linalg.solve"] = [call(P(2), S(2)), call(P(2), S(2, 2))]
CALLS["linalg.cholesky"] = [hermitian(P(2)), hermitian(P(3), upper=True)]
CALLS["linalg.eigvalsh"] = [hermitian(P(3))]
CALLS["linalg.eigh"] = [hermitian(P(2)), hermitian(P(2), "U")]
CALLS["linalg.eigvals"] = [call(A([[1.0, -2.0], [1.5, 0.5]])), dynamic(A([[2.0, 1.0], [0.5, 3.0]]))]
CALLS["linalg.svd"] = [call(S(2, 3), compute_uv=False), call(S(2, 3), full_matrices=False)]
CALLS["linalg.svdvals"] = [call(S(2, 3))]
CALLS["linalg.qr"] = [call(S(3, 2)), call(S(3, 2), "r")]
CALLS["linalg.lstsq"] = [Call((S(3, 2), S(3)), {"rcond": None}, batch=False)]
CALLS["linalg.matrix_power"] = [call(P(2) / 3, 3), call(P(2), -2), call(P(2), 0)]
CALLS["linalg.multi_dot"] = [call([S(2, 3), S(3, 2), S(2, 1)]), call([S(2), S(2, 2), S(2)])]
CALLS["linalg.cond"] = [call(P(2)), call(P(2), 1)]
CALLS["linalg.tensorinv"] = [call(S(4, 2, 2) + 4 * np.eye(4).reshape(4, 2, 2), 1)]
CALLS["linalg.tensorsolve"] = [call(S(2, 2, 4) + 4 * np.eye(4).reshape(2, 2, 4), S(2, 2))]
CALLS["linalg.cross"] = [call(S(3), R(3))]
CALLS["linalg.diagonal"] = [call(S(2, 3, 3), offset=1)]
CALLS["linalg.trace"] = [call(S(2, 3, 3))]
CALLS["linalg.outer"] = [call(S(2), S(3))]
CALLS["linalg.matmul"] = [call(S(2, 2), S(2, 2))]
CALLS["linalg.matrix_transpose"] = [call(S(2, 3))]
CALLS["linalg.tensordot"] = [call(S(2, 3), S(3, 2), axes=1)]
CALLS["linalg.vecdot"] = [call(S(2, 3), S(3))]
CALLS["linalg.vector_norm"] = [call(S(2, 3)), call(S(2, 3), axis=1, ord=1)]
CALLS["linalg.matrix_norm"] = [call(S(2, 3)), call(A([[1.0, 2.0], [3.0, 5.0]]), ord=1)]

# --- numpy.fft ----------------------------------------------------------------------------------------------------------------------------------
for _name in words("fft ifft"):
    CALLS[f"fft.{_name}"] = [call(S(4)), call(C(3)), call(S(2, 3), axis=0), call(S(3), 4), call(S(3), 2), call(S(3), norm="ortho")]
CALLS["fft.rfft"] = [call(S(4)), call(S(3)), call(S(2, 3), n=4, axis=1)]
CALLS["fft.irfft"] = [call(C(3)), call(C(3), n=5), call(S(3))]
CALLS["fft.hfft"] = [call(C(3))]
CALLS["fft.ihfft"] = [call(S(4))]
for _name in words("fft2 ifft2 fftn ifftn"):
    CALLS[f"fft.{_name}"] = [call(S(2, 3)), call(C(2, 2)), call(S(2, 2), s=(3, 2), axes=(0, 1))]
for _name in words("rfft2 rfftn"):
    CALLS[f"fft.{_name}"] = [call(S(2, 3)), call(S(2, 4), axes=(0, 1))]
for _name in words("irfft2 irfftn"):
    CALLS[f"fft.{_name}"] = [call(C(2, 3)), call(C(2, 3), s=(2, 5), axes=(0, 1))]
for _name in words("fftshift ifftshift"):
    CALLS[f"fft.{_name}"] = [call(S(2, 3)), call(S(5), axes=0)]

CALLS = {name: calls for name, calls in CALLS.items() if calls}

# --- integer and boolean results ----------------------------------------------------------------------------------------------------------------
DISCRETE: dict[str, list[Call]] = {
    **{
        name: [call(S(2, 3)), call(S(2, 3), axis=1)]
        for name in words("argmax argmin argsort argpartition all any count_nonzero nanargmax nanargmin")
    },
    **{
        name: [call(S(3), R(3))]
        for name in words("equal not_equal less less_equal greater greater_equal isclose allclose array_equal array_equiv isin")
    },
    **{
        name: [call(_nan)]
        for name in words("isnan isinf isfinite isneginf isposinf signbit iscomplex isreal iscomplexobj isrealobj shape ndim size")
    },
    **{name: [call(A([0.0, 1.0, -2.0]))] for name in words("nonzero flatnonzero argwhere logical_not isscalar iterable")},
    **{name: [call(S(3), A([0.0, 1.0, 0.0]))] for name in words("logical_and logical_or logical_xor")},
    "searchsorted": [call(A([0.0, 1.0, 2.0]), S(3)), call(A([0.0, 1.0]), 0.5, side="right")],
    "digitize": [call(S(3), A([0.0, 1.0])), call(S(3), A([1.0, 0.0])), call(S(3), A([0.0, 1.0]), right=True)],
    "lexsort": [call((A([1.0, 3.0, 2.0]), A([1.0, 0.0, 0.0]))), call(S(2, 3))],
    **{name: [call(S(3, 3))] for name in words("tril_indices_from triu_indices_from diag_indices_from")},
    "linalg.matrix_rank": [call(S(3, 2))],
    "result_type": [call(S(2), np.float32)],
}
DISCRETE["argpartition"] = [call(S(2), 1)]
