"""Every exception that the package raises on purpose, each a subclass of the built-in that fits."""

from __future__ import annotations

__all__ = [
    "AgnosticADError",
    "AnomalyError",
    "AxisError",
    "CustomRuleError",
    "DegenerateError",
    "EscapedArrayError",
    "GraphFreedError",
    "MissingFunctionError",
    "MissingRuleError",
    "MixedArraysError",
    "UnmappedFunctionError",
    "UnsupportedError",
]


class AgnosticADError(Exception):
    """Base class of the package's own errors."""


class MissingRuleError(AgnosticADError, NotImplementedError):
    """An operation has no derivative (or batching) rule for what a transformation asks of it."""


class UnmappedFunctionError(MissingRuleError, TypeError):
    """A function of NumPy or CuPy that is not differentiated was given an array that carries a derivative."""


class EscapedArrayError(AgnosticADError, RuntimeError):
    """An array of a transformation was used where that transformation cannot follow it."""


class MixedArraysError(AgnosticADError, TypeError):
    """Arrays of different libraries, or on different devices, met in one operation."""


class GraphFreedError(AgnosticADError, RuntimeError):
    """A second backward pass reached a part of the graph whose saved arrays are gone."""


class AxisError(AgnosticADError, ValueError, IndexError):
    """An axis is out of range, repeated, or not an integer."""


class CustomRuleError(AgnosticADError, TypeError, ValueError):
    """A user-written derivative rule returned the wrong number, shape or kind of results."""


class DegenerateError(AgnosticADError, ValueError):
    """A derivative of a decomposition was asked for that does not exist: of eigenvectors of equal eigenvalues, and the like."""


class AnomalyError(AgnosticADError, FloatingPointError):
    """Inside ``detect_anomaly``: an operation made a NaN or an infinity out of finite numbers."""


class UnsupportedError(AgnosticADError, NotImplementedError):
    """Something this package, or the array library underneath, does not offer."""


class MissingFunctionError(UnsupportedError, AttributeError):
    """An array library lacks a function, and there is no fallback for it."""
