"""Whose code calls: the line of the user's program that an operation, or a comparison of sizes, comes from."""

from __future__ import annotations

import os
import sys
from types import FrameType

__all__ = ["is_ours", "line_of", "user_line"]


def is_ours(frame: FrameType) -> bool:
    """Tell whether a frame runs code of this package, or text that it generated."""
    name = frame.f_globals.get("__name__")
    return name is None or name == "agnostic_ad" or name.startswith("agnostic_ad.")


def user_line(depth: int = 1) -> str | None:
    """Give the innermost line outside of this package as ``file.py:12``; None where there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and is_ours(frame):
        frame = frame.f_back
    return None if frame is None else line_of(frame)


def line_of(frame: FrameType) -> str:
    """Give the line that a frame is at as ``file.py:12``."""
    return f"{frame.f_code.co_filename.strip('<>').rpartition(os.sep)[2]}:{frame.f_lineno}"
