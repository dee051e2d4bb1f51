"""Certify a namespace: every entry of the op table, checked on any Array API library."""

from agnostic_ad.conformance.report import Report, Row
from agnostic_ad.conformance.running import UnknownNameError, run

__all__ = ["Report", "Row", "UnknownNameError", "run"]
