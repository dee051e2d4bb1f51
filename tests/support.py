"""What several test files share: the array libraries that are here, the modules on disk, the examples in the documents."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]

# ----------------------------------------------------------------------------------------------------
# array libraries

BACKENDS = {
    "numpy": "numpy",
    "array_api_strict": "array_api_strict",
    "torch": "torch",
    "jax": "jax.numpy",
    "dask": "dask.array",
    "cupy": "cupy",
}


@dataclass(frozen=True)
class Backend:
    """An array library. ``xp`` is the module that its users import, ``compat`` the same with the standard's names throughout."""

    name: str

    @property
    def xp(self) -> Any:
        return importlib.import_module(BACKENDS[self.name])

    @property
    def compat(self) -> Any:
        from array_api_compat import array_namespace

        return array_namespace(self.asarray(0.0))

    def asarray(self, value: Any, dtype: str | None = None) -> Any:
        """A raw array of this library; float64 for Python floats, and `dtype` by name."""
        import numpy

        host = numpy.asarray(value, dtype=dtype)
        if self.name == "torch":
            return self.xp.from_numpy(host.copy())
        return self.xp.asarray(host)

    def numpy(self, array: Any) -> Any:
        """A raw array of this library as a NumPy array on the host."""
        import numpy

        if self.name == "cupy":
            return self.xp.asnumpy(array)
        if self.name == "torch":
            return array.detach().resolve_conj().resolve_neg().cpu().numpy()
        return numpy.asarray(array)

    def __str__(self) -> str:
        return self.name


@cache
def cuda_devices() -> int:
    """Count CUDA devices without importing any library."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


@cache
def why_missing(name: str) -> str:
    """Why this backend cannot be used here; empty where it can."""
    if importlib.util.find_spec(BACKENDS[name].partition(".")[0]) is None:
        return f"{name} is not installed"
    if name == "cupy" and not cuda_devices():
        return "cupy: no CUDA device"
    return ""


def asked() -> list[str]:
    """Name the backends to test: all, or those that AGNOSTIC_AD_TEST_BACKENDS lists (which must then be here)."""
    listed = os.environ.get("AGNOSTIC_AD_TEST_BACKENDS", "").replace(",", " ").split()
    for name in listed:
        if name not in BACKENDS:
            raise pytest.UsageError(f"AGNOSTIC_AD_TEST_BACKENDS: {name!r} is none of {', '.join(BACKENDS)}")
        if why_missing(name):
            raise pytest.UsageError(f"AGNOSTIC_AD_TEST_BACKENDS: {why_missing(name)}")
    return listed or list(BACKENDS)


def backends() -> list[Backend]:
    """List the array libraries that can be used here."""
    return [Backend(name) for name in asked() if not why_missing(name)]


def params(*names: str, without: tuple[str, ...] = ()) -> list[Any]:
    """Give the second argument of ``pytest.mark.parametrize("backend", params())``: every backend, or a skip."""
    return [
        pytest.param(
            Backend(name),
            id=name,
            marks=[pytest.mark.backend, pytest.mark.skipif(bool(why_missing(name)), reason=why_missing(name) or "it is here")],
        )
        for name in asked()
        if (not names or name in names) and name not in without
    ]


# ----------------------------------------------------------------------------------------------------
# modules on disk


def modules() -> dict[str, Path]:
    """Map the installed name of every module to its file here: ``agnostic_ad.nn`` to ``nn/__init__.py``."""
    found: dict[str, Path] = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT / folder).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            found[".".join([package, *parts])] = path
    return found


def packages() -> set[str]:
    """Name every package that the folders on disk make, whether they say so with ``__init__.py`` or not."""
    return {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in modules().items()}


# ----------------------------------------------------------------------------------------------------
# examples in documents


@dataclass(frozen=True)
class Example:
    line: int
    source: str
    prompts: bool  # lines with >>> and their output
    needs: tuple[str, ...]


_block = re.compile(r"(?P<before>(?:^<!--[^\n]*-->\n+)?)^```(?:python|pycon)\n(?P<source>.*?)^```[ ]*$", re.M | re.S)
_needs = re.compile(r"<!--\s*needs:\s*(?P<names>[\w ,.]+?)\s*-->")
_not_run = re.compile(r"<!--\s*not run:\s*\S.*-->")


def examples(text: str) -> Iterator[Example]:
    """Find the fenced ``python`` blocks of a Markdown text.

    A comment in the line above changes what happens: ``<!-- needs: torch -->`` skips the block where torch is missing,
    ``<!-- not run: reason -->`` leaves it out.
    """
    for found in _block.finditer(text):
        if _not_run.search(found["before"]):
            continue
        needs = _needs.search(found["before"])
        yield Example(
            line=text.count("\n", 0, found.start("source")) + 1,
            source=found["source"],
            prompts=bool(re.search(r"^\s*>>> ", found["source"], re.M)),
            needs=tuple(needs["names"].replace(",", " ").split()) if needs else (),
        )
