"""The values that derivatives are stated to have where there is none: the policy of this package, as data.

The documents state it in two tables (Transformations, Linear algebra); a test compares them with these rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINKS", "Kink"]

_INF = math.inf


@dataclass(frozen=True)
class Kink:
    """A point without a derivative, and the pullback of a cotangent there.

    Attributes
    ----------
    row : str
        What the documents call it, in the first column of their tables.
    op : str
        The operation.
    operands : tuple
        Numbers and nested lists of them; None for one that is not given.
    slopes : tuple
        The cotangent of each operand.
    params : dict
        The static parameters. A function gives one where it is no plain value.
    ct : number or nested list, optional
        The cotangent of the (first) result, or the same number for all of it.
    """

    row: str
    op: str
    operands: tuple[Any, ...]
    slopes: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)
    ct: Any = 1.0

    @property
    def values(self) -> dict[str, Any]:
        """The static parameters."""
        return {name: value() if callable(value) else value for name, value in self.params.items()}


def _pooling() -> Any:
    from agnostic_ad.backends.windows import Pooling

    return Pooling(kernel=(2,), stride=(2,), padding=((0, 0),), dilation=(1,), ceil=False)


_POWER = "`x1 ** x2`"
_JUMPS = "`floor`, `ceil`, `round`, `trunc`, `floor_divide`"
_NORMS = "norms with `ord=inf`, `ord=-inf`, and `ord=1`, `ord=-1` of matrices"
_PIECES = "`hardtanh`, `hardsigmoid`, `threshold`, `hardshrink`, `softshrink`, `relu6`"
_SLOPES = "`leaky_relu`, `prelu`, `elu` and its sisters"
_ZERO_VALUES = '`matrix_norm`, `ord="nuc"`, `ord=2`, `ord=-2`'
_ENTROPIES = "`special.rel_entr(x, y)`, `special.kl_div(x, y)`"
_ROWS = [
    Kink("`abs`, `sign`", "abs", ([0.0, -0.0],), ([0.0, 0.0],)),
    Kink("`abs`, `sign`", "sign", ([0.0, -0.0],), ([0.0, 0.0],)),
    Kink("`abs`, `sign`", "abs", ([0j],), ([0j],)),
    Kink("`abs`, `sign`", "sign", ([0j],), ([0j],)),
    Kink("`max`, `min` along axes", "max", ([1.0, 3.0, 3.0],), ([0.0, 0.5, 0.5],)),
    Kink("`max`, `min` along axes", "min", ([[1.0, 1.0], [2.0, 0.0]],), ([[1.0, 0.0], [0.0, 1.0]],), {"axis": 0}),
    Kink("`max`, `min` along axes", "min", ([1.0, 1.0, 1.0, 1.0],), ([0.25, 0.25, 0.25, 0.25],)),
    Kink("`maximum`, `minimum`", "maximum", (1.0, 1.0), (0.5, 0.5)),
    Kink("`maximum`, `minimum`", "minimum", ([1.0, 2.0], 1.0), ([0.5, 0.0], 1.5)),
    Kink("`clip`", "clip", ([-2.0, -1.0, 0.0, 1.0, 2.0], -1.0, 1.0), ([0.0, 1.0, 1.0, 1.0, 0.0], 1.0, 1.0)),
    Kink("`nn.functional.relu`", "nn.relu", ([0.0, 1.0],), ([0.0, 1.0],)),
    Kink(_PIECES, "nn.hardtanh", ([-1.0, 0.5, 1.0],), ([0.0, 1.0, 0.0],)),
    Kink(_PIECES, "nn.hardsigmoid", ([-3.0, 3.0],), ([0.0, 0.0],)),
    Kink(_PIECES, "nn.threshold", ([0.0, 1.0],), ([0.0, 1.0],)),
    Kink(_PIECES, "nn.hardshrink", ([-0.5, 0.5, 1.0],), ([0.0, 0.0, 1.0],)),
    Kink(_PIECES, "nn.softshrink", ([-0.5, 0.5, 1.0],), ([0.0, 0.0, 1.0],)),
    Kink(_SLOPES, "nn.leaky_relu", ([0.0],), ([0.01],)),
    Kink(_SLOPES, "nn.prelu", ([0.0], 0.25), ([0.25], 0.0)),
    Kink(_SLOPES, "nn.elu", ([0.0],), ([2.0],), {"alpha": 2.0}),
    Kink("`hardswish`", "nn.hardswish", ([-3.0, 3.0],), ([0.0, 1.0],)),
    Kink("`max_pool`", "nn.max_pool", ([[2.0, 2.0, 1.0, 1.0]],), ([[1.0, 0.0, 1.0, 0.0]],), {"how": _pooling}),
    Kink("`sort`, `take_along_axis` by `argsort`", "sort", ([2.0, 1.0, 2.0],), ([2.0, 1.0, 3.0],), ct=[1.0, 2.0, 3.0]),
    Kink("`unique_values` and its sisters", "unique_values", ([2.0, 1.0, 2.0],), ([20.0, 10.0, 0.0],), ct=[10.0, 20.0]),
    Kink("`hypot`, `atan2`", "hypot", (0.0, 0.0), (0.0, 0.0)),
    Kink("`hypot`, `atan2`", "atan2", (0.0, 0.0), (0.0, 0.0)),
    Kink("`std`", "std", ([2.0, 2.0],), ([0.0, 0.0],)),
    Kink(_POWER, "pow", (0.0, 2.0), (0.0, 0.0)),
    Kink(_POWER, "pow", (2.0, 0.0), (0.0, math.log(2.0))),
    Kink("`sqrt`, `log`, `x ** 0.5`", "sqrt", ([0.0],), ([_INF],)),
    Kink("`sqrt`, `log`, `x ** 0.5`", "log", ([0.0],), ([_INF],)),
    Kink("`sqrt`, `log`, `x ** 0.5`", "pow", (0.0, 0.5), (_INF, 0.0)),
    *(Kink(_JUMPS, name, ([0.0, 1.0],), ([0.0, 0.0],)) for name in ("floor", "ceil", "round", "trunc")),
    Kink(_JUMPS, "floor_divide", (4.0, 2.0), (0.0, 0.0)),
    Kink("`special.xlogy(x, y)`, `special.xlog1py(x, y)`", "special.xlogy", (0.0, [0.0, -1.0, 2.0]), (math.log(2.0), [0.0] * 3)),
    Kink("`special.xlogy(x, y)`, `special.xlog1py(x, y)`", "special.xlog1py", (0.0, [-1.0, -2.0, -0.5]), (-math.log(2.0), [0.0] * 3)),
    Kink(_ENTROPIES, "special.rel_entr", (0.0, 2.0), (-_INF, 0.0)),
    Kink(_ENTROPIES, "special.kl_div", (0.0, 2.0), (-_INF, 1.0)),
    Kink("`special.huber(delta, r)`", "special.huber", (1.0, [1.0, -1.0]), (0.0, [1.0, -1.0])),
    Kink("`special.i0e`", "special.i0e", ([0.0],), ([0.0],)),
    Kink("`special.logsumexp`", "special.logsumexp", ([-_INF, -_INF], None), ([0.0, 0.0], None)),
    Kink("`remainder`", "remainder", (4.0, 2.0), (1.0, -2.0)),
    Kink("`prod`, `cumulative_prod`", "prod", ([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],)),
    Kink("`prod`, `cumulative_prod`", "cumulative_prod", ([0.0, 2.0, 3.0],), ([9.0, 0.0, 0.0],)),
    Kink("`det`", "linalg.det", ([[1.0, 2.0], [2.0, 4.0]],), ([[4.0, -2.0], [-2.0, 1.0]],)),
    Kink("`vector_norm`, `matrix_norm`", "linalg.vector_norm", ([0.0, 0.0],), ([0.0, 0.0],)),
    Kink("`vector_norm`, `matrix_norm`", "linalg.matrix_norm", ([[0.0, 0.0]],), ([[0.0, 0.0]],)),
    Kink("`vector_norm`, `ord < 1`", "linalg.vector_norm", ([0.0, 4.0],), ([0.0, 1.0],), {"ord": 0.5}),
    Kink("`vector_norm`, `ord=0`", "linalg.vector_norm", ([0.0, 4.0],), ([0.0, 0.0],), {"ord": 0}),
    Kink(_NORMS, "linalg.vector_norm", ([3.0, -3.0, 1.0],), ([0.5, -0.5, 0.0],), {"ord": _INF}),
    Kink(_NORMS, "linalg.matrix_norm", ([[1.0, 2.0], [3.0, 2.0]],), ([[0.5, 0.5], [0.5, 0.5]],), {"ord": 1}),
    Kink("`matrix_norm`, `ord=2`, `ord=-2`", "linalg.matrix_norm", ([[1.0, 0.0], [0.0, 1.0]],), ([[0.5, 0.0], [0.0, 0.5]],), {"ord": 2}),
    Kink(_ZERO_VALUES, "linalg.matrix_norm", ([[2.0, 0.0], [0.0, 0.0]],), ([[1.0, 0.0], [0.0, 0.0]],), {"ord": "nuc"}),
    Kink(_ZERO_VALUES, "linalg.matrix_norm", ([[2.0, 0.0], [0.0, 0.0]],), ([[0.0, 0.0], [0.0, 0.0]],), {"ord": -2}),
]

KINKS: dict[str, list[Kink]] = {}
"""The points of each operation."""
for _kink in _ROWS:
    KINKS.setdefault(_kink.op, []).append(_kink)
