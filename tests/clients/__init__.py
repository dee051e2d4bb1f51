"""Calls into other packages' code, as data: one entry a call. `tests/test_clients.py` runs them, and writes `docs/clients.md`."""

from clients import refused, scipy_other, scipy_signal, scipy_special, scipy_stats, sk, small
from clients.base import CALLS, NUMBERS, REFUSED, Call, normal

__all__ = [
    "CALLS",
    "NUMBERS",
    "REFUSED",
    "Call",
    "normal",
    "refused",
    "scipy_other",
    "scipy_signal",
    "scipy_special",
    "scipy_stats",
    "sk",
    "small",
]
