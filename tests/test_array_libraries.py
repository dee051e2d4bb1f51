"""The table of ``docs/array-libraries.md``: who computes each operation of the table on each library. It is computed, not written.

``python tests/test_array_libraries.py --write`` writes it anew.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import support

from agnostic_ad.backends import Backend
from agnostic_ad.conformance.catalogue import calls
from agnostic_ad.errors import MissingFunctionError, UnsupportedError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

PAGE = support.ROOT / "docs" / "array-libraries.md"
BEGIN, END = "<!-- table:begin -->\n", "<!-- table:end -->"
LIBRARIES = {
    "NumPy": "numpy",
    "array-api-strict": "array_api_strict",
    "PyTorch": "torch",
    "JAX": "jax.numpy",
    "Dask": "dask.array",
    "mparray": "mparray",
    "marray": "marray.numpy",
}
SAID = {"library": "●", "general": "○", "missing": "–"}


def found(library: str) -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec(LIBRARIES[library].partition(".")[0]) is not None


def version(library: str) -> str:
    name = LIBRARIES[library].partition(".")[0]
    return str(importlib.import_module(name).__version__)


def backend(library: str) -> Backend:
    package, _, rest = LIBRARIES[library].partition(".")
    module = importlib.import_module(package)
    return backend_of_namespace(getattr(module, rest) if package == "marray" else importlib.import_module(LIBRARIES[library]))


def computed(name: str, xp: Backend) -> str:
    """Say who computes an operation: the library (or its file in `backends`), the general form, or nobody."""
    op = TABLE[name]
    try:
        fn: Any = op.at(xp)
        for call in sorted(calls(op, quick=True), key=lambda call: call.kind != "f")[:1]:
            with np.errstate(all="ignore"):
                call(call.draw(xp))
    except (MissingFunctionError, UnsupportedError):
        return "missing"
    return "general" if isinstance(fn, partial) and fn.func is Backend.fallbacks.get(name) else "library"


def column(library: str) -> dict[str, str]:
    """Say who computes each operation on a library."""
    xp = backend(library)
    return {name: SAID[computed(name, xp)] for name in TABLE}


def written() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Give the versions of the page, and its table by library and operation."""
    text = PAGE.read_text(encoding="utf-8")
    heads, *rows = re.findall(r"^\| (.*) \|$", text[text.index(BEGIN) : text.index(END)], re.M)
    titles = [head.strip().rpartition(" ") for head in heads.split(" | ")[1:]]
    table: dict[str, dict[str, str]] = {name: {} for name, _, _ in titles}
    for row in rows:
        names, *cells = row.split(" | ")
        for (library, _, _), cell in zip(titles, cells, strict=True):
            table[library] |= dict.fromkeys(re.findall(r"`(\S+)`", names), cell.strip())
    return {name: number for name, _, number in titles}, table


def main() -> None:
    columns = {library: column(library) for library in LIBRARIES}
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in TABLE:
        rows.setdefault(tuple(columns[library][name] for library in LIBRARIES), []).append(name)
    lines = [
        "| operations | " + " | ".join(f"{library} {version(library)}" for library in LIBRARIES) + " |",
        "|---" * (1 + len(LIBRARIES)) + "|",
        *(
            f"| {' '.join(f'`{n}`' for n in sorted(names))} | {' | '.join(said)} |"
            for said, names in sorted(rows.items(), key=lambda r: -len(r[1]))
        ),
    ]
    text = PAGE.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:start] + "\n".join(lines) + "\n" + text[end:], encoding="utf-8")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_table_is_true(library: str) -> None:
    if not found(library):
        pytest.skip(f"{library} is not installed")
    versions, table = written()
    if versions[library] != version(library):
        pytest.skip(f"the table was written for {library} {versions[library]}")
    assert table[library] == column(library), "the page is out of date: run `python tests/test_array_libraries.py --write`"


def test_what_computes_is_looked_up_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    xp = backend("NumPy")
    assert computed("sin", xp) == "library" and computed("nn.huber", xp) == "general"
    monkeypatch.setattr(Backend, "fallbacks", {})
    assert computed("nn.huber", Backend(np)) == "missing"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/test_array_libraries.py --write")
    os.environ["JAX_ENABLE_X64"] = "1"
    main()
