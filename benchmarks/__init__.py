"""Benchmarks beside the peers: ``python -m benchmarks``, or ``agnostic-ad bench``.

How the measuring is done: `benchmarks.harness`. What is measured: `benchmarks.command`, and the first lines of each module.
"""

from benchmarks.command import main

__all__ = ["main"]
