"""Other people's code on Variables: the value is NumPy's, the gradient agrees with differences, and nothing is cut off in silence.

``python tests/test_clients.py --write`` writes the table of docs/clients.md anew; `tests/clients` is the list of calls.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    os.environ["SCIPY_ARRAY_API"] = "1"  # as tests/conftest.py does

import clients
import numpy as np
import pytest
import support
from clients import CALLS, NUMBERS, REFUSED
from derivatives import assert_close, jacobian

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError, MixedArraysError
from agnostic_ad.levels import Array

for _name in ("array_api_extra", "einops", "opt_einsum", "pandas", "sklearn", "xarray"):
    pytest.importorskip(_name)
scipy = pytest.importorskip("scipy")
importlib.import_module("agnostic_ad.einops")

PAGE = support.ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- calls:begin -->\n", "<!-- calls:end -->"

HELP = re.compile(
    r"would (silently )?lose (its|the) derivative|has no derivative|cannot hold a derivative|its asarray\(\) takes raw operands in"
)
"""What an error must say."""


class Detached(AssertionError):
    """A result that depends on an operand carries no gradient."""


# --- trees of results, and real vectors ---------------------------------------------------------------------------------------------------
def leaves(y: Any) -> list[Any]:
    """List the arrays and numbers of what a call returned."""
    if isinstance(y, dict):
        y = list(y.values())
    if isinstance(y, tuple | list):
        return [leaf for part in y for leaf in leaves(part)]
    if isinstance(y, Array | bool | int | float | complex | np.generic) or hasattr(y, "__array_namespace__"):
        return [y]
    raise TypeError(f"the call returned {type(y).__name__}: let it pick the arrays")


def host(x: Any) -> Any:
    """Give a result as a NumPy array."""
    while isinstance(x, Array):
        x = x.data
    return np.asarray(x._array if type(x).__module__.startswith("array_api_strict") else x)


def inexact(x: Any) -> bool:
    return host(x).dtype.kind in "fc"


def pack(arrays: list[Any]) -> Any:
    """Lay the real and imaginary parts of floating arrays in one real vector."""
    parts = [part for a in arrays for part in ((a.real, a.imag) if a.dtype.kind == "c" else (a,))]
    return np.concatenate([np.ravel(p) for p in parts]) if parts else np.zeros(0)


def unpack(vector: Any, like: list[Any]) -> list[Any]:
    """Take the vector apart again."""
    out = []
    for a in like:
        part, vector = vector[: a.size], vector[a.size :]
        if a.dtype.kind == "c":
            imag, vector = vector[: a.size], vector[a.size :]
            part = part + 1j * imag
        out.append(part.reshape(a.shape).astype(a.dtype))
    return out


def run(call: clients.Call, arrays: list[Any]) -> Any:
    """Make a call."""
    from sklearn import config_context

    with config_context(array_api_dispatch=True), warnings.catch_warnings():
        if call.strong:
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the 0 / 0 that the client means to happen
        return call.run(call.module, *arrays)


# --- one call -----------------------------------------------------------------------------------------------------------------------------
class Trial:
    """One call with its arrays drawn, its values on raw NumPy arrays, and its Jacobian by differences."""

    def __init__(self, call: clients.Call) -> None:
        self.call = call
        self.rng = np.random.default_rng(zlib.crc32(call.label.encode()))
        self.arrays = [draw(self.rng) for draw in call.draws]
        self.moving = [a for a in self.arrays if a.dtype.kind in "fc"]
        self.values = [host(y) for y in leaves(self.run(self.arrays))]
        self.outputs = [y for y in self.values if y.dtype.kind in "fc"]
        self.matrix = jacobian(lambda v: pack(self.raw(unpack(v, self.moving))), pack(self.moving))

    def run(self, arrays: list[Any]) -> Any:
        return run(self.call, arrays)

    def merged(self, moving: list[Any], other: Callable[[Any], Any]) -> list[Any]:
        """Give all operands: the differentiated ones from a list, the others through a function."""
        found = iter(moving)
        return [next(found) if a.dtype.kind in "fc" else other(a) for a in self.arrays]

    def raw(self, moving: list[Any]) -> list[Any]:
        return [host(y) for y in leaves(self.run(self.merged(moving, lambda a: a))) if inexact(y)]

    def compare(self, got: list[Any]) -> None:
        assert len(got) == len(self.values), f"{len(got)} results, {len(self.values)} of NumPy's"
        for y, want in zip(got, self.values, strict=True):
            assert_close(host(y), want, rtol=1e-9, atol=1e-11)
            assert host(y).dtype == want.dtype, f"{host(y).dtype}, NumPy has {want.dtype}"

    def differentiate(self, lib: support.Backend) -> int:
        """Run on Variables over ``lib``; compare with NumPy and with the differences; give how many results carry a gradient."""
        moving = [ad.Variable(lib.asarray(a)) for a in self.moving]
        got = leaves(self.run(self.merged(moving, lambda a: ad.Variable(lib.asarray(a)))))
        self.compare(got)
        parts = [y for y in got if inexact(y)]
        row, seeds, carrying, cts = 0, [], [], []
        for y, want in zip(parts, self.outputs, strict=True):
            rows = want.size * (2 if want.dtype.kind == "c" else 1)
            if isinstance(y, ad.Variable) and y.requires_grad:
                seed = self.rng.standard_normal(rows)
                carrying.append(y)
                cts.append(lib.asarray(unpack(seed, [want])[0]))
            else:
                seed = np.zeros(rows)
                lost = np.max(np.abs(self.matrix[row : row + rows]), initial=0.0)
                if lost > 1e-7:
                    raise Detached(f"a result of type {type(y).__name__} carries no gradient; differences give {lost:.2g}")
            seeds.append(seed)
            row += rows
        if not carrying:
            raise Detached("no result carries a gradient: the call tests nothing")
        grads = ad.gradients(carrying, moving, cts, allow_unused=True)
        have = pack([np.zeros_like(a) if g is None else host(g) for g, a in zip(grads, self.moving, strict=True)])
        seed = np.concatenate(seeds)
        self.close(have, seed @ self.matrix, np.abs(seed) @ np.abs(self.matrix))
        return len(carrying)

    def f(self, *moving: Any) -> list[Any]:
        """Be the call as a function of what is differentiated, with its floating results alone."""
        xp = ad.namespace(*moving)
        return [y for y in leaves(self.run(self.merged(list(moving), xp.asarray))) if inexact(y)]

    def pull(self) -> None:
        """Run inside ``ad.vjp`` on raw NumPy arrays."""
        ys, pullback = ad.vjp(self.f, *self.moving)
        seed = self.rng.standard_normal(len(self.matrix))
        for y, want in zip(ys, self.outputs, strict=True):
            assert_close(y, want, rtol=1e-9, atol=1e-11)
        self.close(pack(list(pullback(unpack(seed, self.outputs)))), seed @ self.matrix, np.abs(seed) @ np.abs(self.matrix))

    def push(self) -> None:
        """Run inside ``ad.jvp`` on raw NumPy arrays."""
        seed = self.rng.standard_normal(self.matrix.shape[1])
        ys, tangents = ad.jvp(self.f, tuple(self.moving), tuple(unpack(seed, self.moving)))
        self.close(pack(tangents), self.matrix @ seed, np.abs(self.matrix) @ np.abs(seed))

    def close(self, have: Any, want: Any, scale: Any) -> None:
        """Compare sums, to within a part of the sums of the absolute values of their terms."""
        scale = np.maximum(scale, 1e-3)
        assert_close(have / scale, want / scale, rtol=0.0, atol=self.call.rtol)


# --- what the page says -------------------------------------------------------------------------------------------------------------------
NUMPY, STRICT = support.Backend("numpy"), support.Backend("array_api_strict")


@functools.cache
def trial(call: clients.Call) -> Trial:
    return Trial(call)


def zeros(call: clients.Call) -> Any:
    return ad.strong_zeros() if call.strong else contextlib.nullcontext()


def reverse(call: clients.Call) -> None:
    """Differentiate by ``backward`` and by ``vjp``."""
    with zeros(call):
        assert trial(call).differentiate(NUMPY) > 0
        trial(call).pull()


def forward(call: clients.Call) -> None:
    """Differentiate by ``jvp``."""
    with zeros(call):
        trial(call).push()


def strict(call: clients.Call) -> None:
    """Differentiate over array_api_strict."""
    with zeros(call):
        trial(call).differentiate(STRICT)


MODES: dict[str, Callable[[clients.Call], None]] = {"reverse": reverse, "forward": forward, "over array_api_strict": strict}


def taken_by_strict(call: clients.Call) -> bool:
    """Tell whether the client takes raw arrays of array_api_strict in this call."""
    try:
        trial(call).run([STRICT.asarray(a) for a in trial(call).arrays])
    except Exception:
        return False
    return True


def cell(call: clients.Call, mode: str) -> str:
    """Say in a word what works."""
    try:
        MODES[mode](call)
    except MixedArraysError:
        return "mixes in NumPy"
    except Exception:
        return "not its own arrays" if mode == "over array_api_strict" and not taken_by_strict(call) else "no"
    return "yes"


@functools.cache
def written() -> dict[str, dict[str, str]]:
    """Read the tables of the page: label -> mode -> cell."""
    found: dict[str, dict[str, str]] = {}
    client = ""
    for line in PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines():
        if line.startswith("## "):
            client = line.removeprefix("## ").strip("`")
        elif line.startswith("| `"):
            name, *cells = (part.strip() for part in line.strip("|").split("|"))
            found[f"{client}.{name.strip('`')}"] = dict(zip(MODES, cells, strict=True))
    return found


def by_client(calls: list[clients.Call]) -> dict[str, list[clients.Call]]:
    """Group calls by the module that is imported, in order."""
    found: dict[str, list[clients.Call]] = {}
    for call in calls:
        found.setdefault(call.client, []).append(call)
    return found


def listed(calls: list[clients.Call]) -> list[str]:
    names = {c.label: f"`{c.name}`" + f" (before SciPy {c.until})" * bool(c.until) for c in calls}
    return [f"- `{client}`: " + ", ".join(names[c.label] for c in some) for client, some in by_client(calls).items()]


def drawn(cells: dict[str, dict[str, str]]) -> str:
    """Write the generated part of the page."""
    count = {mode: sum(found[mode] == "yes" for found in cells.values()) for mode in MODES}
    lines = [f"Of {len(cells)} calls, " + ", ".join(f"{n} work {mode}" for mode, n in count.items()) + "."]
    for client, calls in by_client(CALLS).items():
        lines += ["", f"## `{client}`", "", "| call | " + " | ".join(MODES) + " |", "|---" * (len(MODES) + 1) + "|"]
        lines += [f"| `{call.name}` | " + " | ".join(cells[call.label][mode] for mode in MODES) + " |" for call in calls]
        for note in dict.fromkeys(note for call in calls for note in (call.strong, call.why) if note):
            lines += ["", ", ".join(f"`{c.name}`" for c in calls if note in (c.strong, c.why)) + f": {note}."]
    lines += [
        "",
        "## What raises",
        "",
        "These take NumPy's memory, in Python or in compiled code. The error says what to write instead.",
        "",
    ]
    lines += listed(REFUSED)
    lines += [
        "",
        "## What makes a Python number",
        "",
        "These say `float(...)` of an array: see",
        "[Python numbers](through-scipy.md#python-numbers).",
        "",
    ]
    return BEGIN + "\n".join(lines + listed(NUMBERS)) + "\n" + END


def main() -> None:
    """Write the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    cells = {call.label: {mode: cell(call, mode) for mode in MODES} for call in CALLS}
    PAGE.write_text(before + drawn(cells) + rest.partition(END)[2], encoding="utf-8")


# --- the tests ----------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.label)
def test_the_gradient_goes_through(call: clients.Call, mode: str) -> None:
    said = written()[call.label][mode]
    if said == "yes":
        MODES[mode](call)  # its own error says more than a comparison of words
    else:
        assert said == cell(call, mode), "the page is out of date: run `python tests/test_clients.py --write`"


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.label)
def test_what_leaves_the_standard_says_so(call: clients.Call) -> None:
    if call.until and np.lib.NumpyVersion(scipy.__version__) >= f"{call.until}.0":
        for goes in MODES.values():
            goes(call)
        return
    rng = np.random.default_rng(0)
    with pytest.raises(Exception, match=HELP):
        run(call, [ad.Variable(draw(rng)) for draw in call.draws])


@pytest.mark.parametrize("call", NUMBERS, ids=lambda call: call.label)
def test_a_python_number_is_refused_inside_a_transformation(call: clients.Call) -> None:
    (got,) = leaves(run(call, [ad.Variable(a) for a in trial(call).arrays]))
    assert_close(host(got), trial(call).values[0])
    with pytest.raises(EscapedArrayError, match=r"float\(\) takes a value out of vjp\(f\), and its derivative would be lost"):
        trial(call).pull()


def test_what_to_switch_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn
    from sklearn.preprocessing import MaxAbsScaler

    x = ad.Variable([[1.0], [2.0]])
    scipy_says = r"SciPy takes arrays as they are where SCIPY_ARRAY_API=1 is set in the environment before it is imported\."
    sklearn_says = r"scikit-learn does inside sklearn\.config_context\(array_api_dispatch=True\)\."
    with sklearn.config_context(array_api_dispatch=False):
        with pytest.raises(EscapedArrayError, match=f"values alone are wanted\\. {sklearn_says}$"):
            MaxAbsScaler().fit(x)
        monkeypatch.delenv("SCIPY_ARRAY_API")
        with pytest.raises(EscapedArrayError, match=f"values alone are wanted\\. {scipy_says} {sklearn_says}$"):
            np.asarray(x)
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with sklearn.config_context(array_api_dispatch=True), pytest.raises(EscapedArrayError, match=r"values alone are wanted\.$"):
        np.asarray(x)


SAMPLE = ["scipy.stats.skew", "scipy.special.gammaln", "scipy.fft.rfft", "scipy.spatial.transform.Rotation.mul", "einops.rearrange"]
SAMPLE += ["scipy.integrate.trapezoid", "sklearn.metrics.pairwise.rbf_kernel", "array_api_extra.kron"]


@pytest.mark.parametrize("lib", support.params())
@pytest.mark.parametrize("label", SAMPLE)
def test_a_sample_on_every_library(label: str, lib: support.Backend) -> None:
    (call,) = (c for c in CALLS if c.label == label)
    assert trial(call).differentiate(lib) > 0


def test_the_page_is_whole() -> None:
    cells = written()
    assert list(cells) == [call.label for call in CALLS]
    assert len(cells) == len(CALLS) >= 250
    assert drawn(cells) in PAGE.read_text(encoding="utf-8")
    assert [label for label, found in cells.items() if found["forward"] != "yes" or found["reverse"] != "yes"] == []
    assert [label for label, found in cells.items() if found["over array_api_strict"] == "no"] == []


def test_the_harness_finds_what_is_cut_off() -> None:
    def cut(m: Any, x: Any) -> Any:
        return 2.0 * x, float(x.sum().detach() if isinstance(x, Array) else x.sum())

    with pytest.raises(Detached, match="a result of type float carries no gradient"):
        Trial(clients.Call("numpy", "cut", cut, (clients.normal(3),))).differentiate(NUMPY)


def test_the_harness_finds_a_wrong_derivative() -> None:
    @ad.custom_vjp
    def square(x: Any) -> Any:
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, ct: (ct * x,))
    wrong = Trial(clients.Call("numpy", "wrong", lambda m, x: square(x), (clients.normal(3),)))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        wrong.differentiate(NUMPY)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        wrong.pull()


def test_operands_that_are_not_wrapped() -> None:
    from scipy import stats

    with pytest.raises(TypeError, match=r"its asarray\(\) takes raw operands in"):
        stats.ttest_ind(ad.Variable([0.0, 1.0, 3.0]), np.asarray([1.0, 2.0, 4.0]))


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/test_clients.py --write")
    warnings.simplefilter("error")
    main()
