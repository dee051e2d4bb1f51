"""Transforms of tables: the last axis counts columns. What they know of a table they learn with ``fit``, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

import agnostic_ad as ad
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.data.transforms.arguments import is_number
from agnostic_ad.nn.data.transforms.base import Transform
from agnostic_ad.nn.data.transforms.functional.pixels import numbers, on_host, there, wide
from agnostic_ad.nn.data.transforms.layouts import is_array

__all__ = ["Impute", "OneHot", "Standardize"]


def _host(what: str, x: Any) -> np.ndarray[Any, Any]:
    """Give a table (rows, columns) as float64 on the host."""
    host = on_host(x)
    if host.ndim < 2 or host.dtype.kind not in "iuf" or 0 in host.shape:
        raise ValueError(f"{what}.fit takes a table of numbers, (rows, columns), not {host.dtype} of shape {host.shape}")
    return host.reshape(-1, host.shape[-1]).astype("float64")


class _Fitted(Transform):
    """A transform with something to learn; ``_learned`` are the names of what that is."""

    _learned: tuple[str, ...] = ()

    def takes(self, leaf: Any) -> bool:
        """Tell whether a part of a sample can be a row or a table."""
        return is_array(leaf) and len(leaf.shape) >= 1

    def state_dict(self) -> dict[str, Any]:
        """Give what was learned, as NumPy arrays."""
        self._check_fitted()
        return {name: np.asarray(getattr(self, name)) for name in self._learned}

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Take what another one learned."""
        if set(state) != set(self._learned):
            raise KeyError(f"{self.name}: the state holds {sorted(state)}, and {sorted(self._learned)} is wanted")
        for name in self._learned:
            setattr(self, name, np.asarray(state[name]))
        return self

    def _check_fitted(self) -> None:
        if any(getattr(self, name) is None for name in self._learned):
            raise RuntimeError(f"{self.name} knows no {' and no '.join(self._learned)} yet: call fit(table) first, or give them")

    def _column(self, x: Any, values: Any) -> Any:
        """Give one number for each column, in the library of ``x``."""
        if len(values) != 1 and x.shape[-1] != len(values):
            raise ValueError(f"{self.name} was fitted to {len(values)} columns, and this table of shape {tuple(x.shape)} has {x.shape[-1]}")
        return there(x, values, x.dtype)


class Standardize(_Fitted):
    """Give each column the mean 0 and the standard deviation 1 that it had not in the table of ``fit``; missing values (NaN) do not count.

    Parameters
    ----------
    mean, std : number or sequence of number, optional
        One for each column, where they are known; otherwise ``fit`` finds them. A column of one value is only moved.
    **options
        As for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> table = np.asarray([[1.0, 10.0], [3.0, 30.0]])
    >>> scale = T.Standardize().fit(table)
    >>> scale(table)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> scale.inverse(scale(table))
    array([[ 1., 10.],
           [ 3., 30.]])
    """

    _learned = ("mean", "std")

    def __init__(self, mean: Any = None, std: Any = None, **options: Any) -> None:
        super().__init__(**options)
        if (mean is None) != (std is None):
            raise ValueError("Standardize takes both mean and std, or neither")
        self.mean = None if mean is None else numbers(self.name, "mean", mean)
        self.std = None if std is None else numbers(self.name, "std", std)
        if self.std is not None and not (self.std > 0).all():
            raise ValueError(f"Standardize: std is above 0 for every column, not {std!r}")

    def fit(self, table: Any) -> Self:
        """Learn the means and standard deviations of a table (rows, columns)."""
        host = _host(self.name, table)
        there_ = ~np.isnan(host)
        count = np.maximum(there_.sum(axis=0), 1)
        self.mean = np.where(there_, host, 0.0).sum(axis=0) / count
        deviation = np.sqrt((np.where(there_, host - self.mean, 0.0) ** 2).sum(axis=0) / count)
        self.std = np.where(deviation > 0, deviation, 1.0)
        return self

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Standardize."""
        self._check_fitted()
        x = wide(inpt)
        return (x - self._column(x, self.mean)) / self._column(x, self.std)

    def inverse(self, table: Any) -> Any:
        """Give the table back."""
        self._check_fitted()
        return table * self._column(table, self.std) + self._column(table, self.mean)


class Impute(_Fitted):
    """Put a value in place of what is missing (NaN).

    Parameters
    ----------
    strategy : {"mean", "median", "most_frequent", "constant"}
        What ``fit`` takes of each column's values that are there; of several most frequent ones, the smallest.
    fill_value : number
        For "constant", and for columns of which nothing is there.
    **options
        As for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.Impute("median").fit(np.asarray([[1.0], [2.0], [9.0]]))(np.asarray([[np.nan], [5.0]]))
    array([[2.],
           [5.]])
    """

    _learned = ("values",)

    def __init__(self, strategy: str = "mean", fill_value: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if strategy not in ("mean", "median", "most_frequent", "constant"):
            raise ValueError(f"Impute: strategy is 'mean', 'median', 'most_frequent' or 'constant', not {strategy!r}")
        if not is_number(fill_value):
            raise ValueError(f"Impute: fill_value is a number, not {fill_value!r}")
        self.strategy, self.fill_value = strategy, float(fill_value)
        self.values: Any = np.asarray([self.fill_value]) if strategy == "constant" else None

    def fit(self, table: Any) -> Self:
        """Learn a value for each column of a table (rows, columns)."""
        host = _host(self.name, table)
        self.values = np.asarray([self._value(column[~np.isnan(column)]) for column in host.T])
        return self

    def _value(self, column: np.ndarray[Any, Any]) -> float:
        if self.strategy == "constant" or not len(column):
            return self.fill_value
        if self.strategy == "most_frequent":
            found, counts = np.unique(column, return_counts=True)
            return float(found[counts.argmax()])
        return float(column.mean() if self.strategy == "mean" else np.median(column))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Fill in."""
        self._check_fitted()
        xp = ad.namespace(inpt)
        if not xp.isdtype(inpt.dtype, "real floating"):
            return inpt  # integers have no NaN
        return xp.where(xp.isnan(inpt), self._column(inpt, self.values), inpt)


class OneHot(_Fitted):
    """Give a 1 at the place of each value among the categories, in a new last axis.

    Parameters
    ----------
    categories : sequence, optional
        The values, numbers or strings; otherwise ``fit`` finds them, in order.
    handle_unknown : {"error", "ignore"}
        Whether another value is an error, or all zeros.
    dtype : dtype or str
        Of the result.
    **options
        As for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.OneHot().fit(["red", "blue"])(np.asarray(["red", "red", "blue"]))
    array([[0., 1.],
           [0., 1.],
           [1., 0.]], dtype=float32)
    """

    _learned = ("categories",)

    def __init__(
        self, categories: Sequence[Any] | None = None, handle_unknown: str = "error", dtype: Any = "float32", **options: Any
    ) -> None:
        super().__init__(**options)
        if handle_unknown not in ("error", "ignore"):
            raise ValueError(f"OneHot: handle_unknown is 'error' or 'ignore', not {handle_unknown!r}")
        self.categories: Any = None if categories is None else np.asarray(list(categories))
        if self.categories is not None and (not self.categories.size or len(np.unique(self.categories)) != len(self.categories)):
            raise ValueError(f"OneHot: categories are values that differ, one or more, not {categories!r}")
        self.handle_unknown, self.dtype = handle_unknown, dtype

    def takes(self, leaf: Any) -> bool:
        """Tell whether a part of a sample can be a value or a column."""
        return is_array(leaf) or isinstance(leaf, str | int)

    def fit(self, column: Any) -> Self:
        """Learn the values of a column."""
        self.categories = np.unique(on_host(column))
        return self

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Encode."""
        self._check_fitted()
        x = inpt if is_array(inpt) else np.asarray(inpt)
        if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "OSU":  # strings, which NumPy alone has
            hit = np.asarray(x)[..., None] == self.categories
            self._check_known(hit.any(axis=-1), np.asarray(x))
            return hit.astype(self.dtype)
        xp = ad.namespace(x)
        hit = xp.expand_dims(x, axis=-1) == there(x, self.categories)
        known = xp.any(hit, axis=-1)
        if self.handle_unknown == "error" and not bool(xp.all(known)):
            self._check_known(on_host(known), on_host(x))
        backend = x.backend if isinstance(x, Array) else backend_of(x)
        return xp.astype(hit, backend.dtype(self.dtype))

    def _check_known(self, known: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> None:
        if self.handle_unknown == "error" and not known.all():
            value = x[~known].reshape(-1)[0].item()
            raise ValueError(f"OneHot: {value!r} is none of the {len(self.categories)} categories; handle_unknown='ignore' gives zeros")
