"""Every docstring's examples, of every module under its installed name (pytest's own collection would import nn/ as `nn`)."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import support

MODULES = [name for name in support.modules() if not name.endswith("__main__")]
OPTIONAL = {"cupy", "cupyx", "dask", "einops", "jax", "numba", "sklearn", "torch"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] in OPTIONAL:
            pytest.skip(f"{missing.name} is not installed")
        raise
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == support.modules()[name], "another copy of agnostic_ad is installed"
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=report.append)
    if runner.failures:
        pytest.fail("".join(report), pytrace=False)
