"""Switches, each a context manager and a decorator, kept per thread and per asyncio task."""

from __future__ import annotations

import contextlib
import copy
from contextvars import ContextVar, Token
from typing import Any

from agnostic_ad.levels import ABOVE_ALL, DEAD, ESCAPES, FAST, QUIET, STRONG, WATCHING, active_level, next_depth

__all__ = ["detect_anomaly", "enable_grad", "escapes", "is_grad_enabled", "no_grad", "set_grad_enabled", "strong_zeros"]


class _Switch(contextlib.ContextDecorator):
    """Sets context variables on entry and puts them back on exit; may be nested and used again."""

    def __init__(self) -> None:
        self._tokens: list[list[tuple[ContextVar[Any], Token[Any]]]] = []

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        raise NotImplementedError

    def __call__(self, function: Any) -> Any:
        if getattr(self, "_pending", False):  # a decorator switches inside the function only
            self._pending = False
            self.__exit__()
        return super().__call__(function)

    def _recreate_cm(self) -> Any:
        made = copy.copy(self)  # a function that is decorated may run in several threads at once
        made._tokens = []
        return made

    def __enter__(self) -> Any:
        self._tokens.append([(variable, variable.set(value)) for variable, value in self._settings()])
        return self

    def __exit__(self, *exc: object) -> None:
        for variable, token in self._tokens.pop():
            variable.reset(token)


def _recording(flag: bool) -> list[tuple[ContextVar[Any], Any]]:
    quiet = DEAD if flag else next_depth()
    return [(QUIET, quiet), (FAST, ABOVE_ALL if FAST.get() == ABOVE_ALL else quiet)]


class _Bare(_Switch):
    """A switch that decorates without brackets too, as PyTorch's do."""

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Any = None) -> None:
        super().__init__()


class no_grad(_Bare):
    """Record nothing: results do not require grad.

    A transformation that is entered inside (``grad`` within ``no_grad``) records as ever.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> x = ad.Variable([1.0])
    >>> with ad.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return _recording(False)


class enable_grad(_Bare):
    """Record again, inside ``no_grad``."""

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return _recording(True)


class set_grad_enabled(_Switch):
    """Switch recording on or off: at once, and back at the end where used in a ``with``.

    Parameters
    ----------
    mode : bool
        Whether to record.
    """

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode
        self.__enter__()
        self._pending = True

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return _recording(self.mode)

    def __enter__(self) -> Any:
        if getattr(self, "_pending", False):
            self._pending = False  # the constructor has switched already
            return self
        return super().__enter__()


def is_grad_enabled() -> bool:
    """Tell whether operations are recorded here."""
    level = active_level()
    return (0 if level is None else max(level.depth, 0)) > QUIET.get()  # a capture may lie below the tape that lasts


class escapes(_Switch):
    """Say what happens when a value that carries a gradient leaves a functional transformation as a Python number.

    It concerns ``float``, ``int``, ``complex``, ``item`` and ``tolist`` inside ``grad``, ``vjp``, ``jvp`` and the like. It acts at once,
    and is undone at the end where used in a ``with``.

    Parameters
    ----------
    policy : {"raise", "warn", "allow"}
        "raise", the default, is an `EscapedArrayError`; "warn" a RuntimeWarning.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> def loss(x):
    ...     with ad.escapes("allow"):
    ...         print(float(x))
    ...     return x * x
    >>> ad.grad(loss)(3.0)
    3.0
    array(6.)
    """

    def __init__(self, policy: str) -> None:
        if policy not in ("raise", "warn", "allow"):
            raise ValueError(f"escapes takes 'raise', 'warn' or 'allow', not {policy!r}")
        super().__init__()
        self.policy = policy
        super().__enter__()
        self._pending = True

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return [(ESCAPES, self.policy)]

    def __enter__(self) -> Any:
        if self._pending:
            self._pending = False
            return self
        return super().__enter__()


class detect_anomaly(_Switch):
    """Check every result, forward and backward; a NaN or an infinity made of finite numbers is an error that names the operation.

    In the backward pass the error also says where the operation was recorded. Slow: for finding faults.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> x = ad.Variable([0.0])
    >>> with np.errstate(divide="ignore"), ad.detect_anomaly():  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     ad.namespace(x).sqrt(x).sum().backward()
    Traceback (most recent call last):
    agnostic_ad.errors.AnomalyError: the derivative of sqrt made a NaN or an infinity from a finite cotangent
    """

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return [(FAST, ABOVE_ALL), (WATCHING, True)]


class strong_zeros(_Bare):
    """Let a derivative of zero stay zero, also where it meets an infinite or undefined factor: ``0 * inf`` counts as 0.

    It concerns elementwise functions, while derivatives are computed: around ``backward``, or around the call of what `grad`, `vjp`, `jvp`
    and the like made. The gradient of ``where(x > 0, sqrt(x), 0)`` at 0 is then 0, where it is NaN otherwise, here and in other packages.
    Each elementwise rule then compares its cotangent with zero, so it is not the default.

    Examples
    --------
    >>> import numpy
    >>> import agnostic_ad as ad
    >>> np = ad.differentiable(numpy)
    >>> f = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))
    >>> with ad.strong_zeros(), numpy.errstate(divide="ignore", invalid="ignore"):
    ...     ad.grad(f)(numpy.asarray([0.0, 4.0]))
    array([0.  , 0.25])
    """

    def _settings(self) -> list[tuple[ContextVar[Any], Any]]:
        return [(STRONG, True)]
