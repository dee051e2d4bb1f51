"""The README's table of what works where, and the scripts in `examples`: both are run.

``python tests/test_readme.py --write`` writes the table anew. Columns of libraries that are not here stay as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import graph

README = support.ROOT / "README.md"
BEGIN, END = "<!-- works:begin -->\n", "<!-- works:end -->"
NOT_RUN = "not yet run"
Lib = support.Backend


def _same(lib: Lib, got: Any, want: Any) -> None:
    """Compare with NumPy numbers, and see that the library and float64 are kept."""
    assert type(got) is type(lib.asarray(0.0)), f"{type(got).__name__} came back"
    host = lib.numpy(got)
    assert host.dtype == np.float64, f"{host.dtype} came back"
    np.testing.assert_allclose(host, want, rtol=1e-12, atol=1e-12)


def _f(x: Any) -> Any:
    xp = ad.namespace(x)
    return xp.sum(xp.sin(x) * x)


X = np.asarray([0.5, 1.0, 2.0])
GRADIENT = np.cos(X) * X + np.sin(X)
CURVATURE = 2 * np.cos(X) - X * np.sin(X)


# --- one function a row -----------------------------------------------------------------------------------------------------------------
def backward(lib: Lib) -> None:
    x = ad.Variable(lib.asarray(X))
    _f(x).backward()
    _same(lib, x.grad, GRADIENT)


def grad_and_hessian(lib: Lib) -> None:
    _same(lib, ad.grad(_f)(lib.asarray(X)), GRADIENT)
    _same(lib, ad.hessian(_f)(lib.asarray(X)), np.diag(CURVATURE))


def jvp(lib: Lib) -> None:
    _same(lib, ad.jvp(_f, (lib.asarray(X),), (lib.asarray(np.ones(3)),))[1], GRADIENT.sum())


def vmap(lib: Lib) -> None:
    rows = np.stack([X, 2 * X])
    _same(lib, ad.vmap(ad.grad(_f))(lib.asarray(rows)), np.cos(rows) * rows + np.sin(rows))


def capture(lib: Lib) -> None:
    captured = graph.capture(ad.grad(_f), lib.asarray(X))
    _same(lib, captured(lib.asarray(X)), GRADIENT)


def indexing(lib: Lib) -> None:
    where = lib.asarray([2, 0, 2], dtype="int64")
    _same(lib, ad.grad(lambda x: ad.namespace(x).sum(x[where] * x[1:][:1]))(lib.asarray(X)), [1.0, 4.5, 2.0])
    _same(lib, ad.grad(lambda x: ad.namespace(x).sum(ad.namespace(x).take(x, where) ** 2))(lib.asarray(X)), [1.0, 0.0, 8.0])


def masks(lib: Lib) -> None:
    _same(lib, ad.grad(lambda x: ad.namespace(x).sum(x[x > 0.7] ** 2))(lib.asarray(X)), [0.0, 2.0, 4.0])


def assignment(lib: Lib) -> None:
    def f(x: Any) -> Any:
        y = 1.0 * x
        y[0] = x[2] ** 2
        y[1:] *= 3.0
        return ad.namespace(y).sum(y)

    _same(lib, ad.grad(f)(lib.asarray(X)), [0.0, 3.0, 7.0])


MATRIX = np.asarray([[2.0, 0.5], [0.5, 1.0]])


def linear_algebra(lib: Lib) -> None:
    inverse = np.linalg.inv(MATRIX)
    _same(lib, ad.grad(lambda a: ad.namespace(a).linalg.slogdet(a).logabsdet)(lib.asarray(MATRIX)), inverse.T)
    _same(lib, ad.grad(lambda a: ad.namespace(a).sum(ad.namespace(a).linalg.eigvalsh(a)))(lib.asarray(MATRIX)), np.eye(2))
    _same(lib, ad.grad(lambda a: ad.namespace(a).linalg.svdvals(a)[0])(lib.asarray(np.diag([1.0, 3.0]))), np.diag([0.0, 1.0]))


def fourier(lib: Lib) -> None:
    def power(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(xp.square(xp.abs(xp.fft.fft(xp.astype(x, xp.complex128)))))

    _same(lib, ad.grad(power)(lib.asarray(X)), 2 * X.size * X)


def special(lib: Lib) -> None:
    slope = 2 / np.sqrt(np.pi) * np.exp(-(X**2))
    _same(lib, ad.grad(lambda x: ad.namespace(x).sum(ad.namespace(x).special.erf(x)))(lib.asarray(X)), slope)
    weights = np.exp(X) / np.exp(X).sum()
    _same(lib, ad.grad(lambda x: ad.namespace(x).special.logsumexp(x))(lib.asarray(X)), weights)


def training(lib: Lib) -> None:
    from agnostic_ad import nn

    ad.manual_seed(0)
    with ad.defaults(xp=lib.xp, dtype="float64"):
        model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = nn.optim.Adam(model.parameters(), lr=0.1)
    x, y = lib.asarray(np.stack([X, -X, X**2])), lib.asarray([0, 1, 0], dtype="int64")
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    _same(lib, model[0].weight.data, lib.numpy(model[0].weight.data))


def convolution(lib: Lib) -> None:
    from agnostic_ad import nn

    kernel = lib.asarray(np.ones((1, 1, 2, 2)))
    image = lib.asarray(np.arange(16.0).reshape(1, 1, 4, 4))
    got = ad.grad(lambda x: ad.namespace(x).sum(nn.functional.max_pool2d(nn.functional.conv2d(x, kernel), 3)))(image)
    want = np.zeros((1, 1, 4, 4))
    want[..., 2:, 2:] = 1.0
    _same(lib, got, want)


ROWS: dict[str, Callable[[Lib], None]] = {
    "define-by-run: `backward()`": backward,
    "`grad`, `hessian`": grad_and_hessian,
    "`jvp`": jvp,
    "`vmap` of `grad`": vmap,
    "capture of `grad`, and replay": capture,
    "gradients through `x[indices]`, `take`": indexing,
    "gradients through `x[mask]`": masks,
    "gradients through `x[i] = v`, `x[i] *= v`": assignment,
    "`linalg`": linear_algebra,
    "`fft`": fourier,
    "`special`, SciPy's names": special,
    "`nn`: a training step": training,
    "`nn`: convolution, pooling": convolution,
}


# --- the table --------------------------------------------------------------------------------------------------------------------------
def cell(row: str, lib: Lib) -> str:
    """Run one check."""
    try:
        ROWS[row](lib)
    except Exception:
        return "no"
    return "yes"


def written(text: str) -> dict[str, dict[str, str]]:
    """Read the table: row -> library -> cell."""
    lines = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    table = [[part.strip() for part in line.strip().strip("|").split("|")] for line in lines if line.strip()]
    return {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[2:]}


def drawn(cells: dict[str, dict[str, str]]) -> str:
    """Write the table."""
    names = list(support.BACKENDS)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(found[name] for name in names) + " |" for row, found in cells.items()]
    return BEGIN + "\n".join(lines) + "\n" + END


def main() -> None:
    """Write the table into the README."""
    text = README.read_text(encoding="utf-8")
    old = written(text)
    cells = {
        row: {name: old.get(row, {}).get(name, NOT_RUN) if support.why_missing(name) else cell(row, Lib(name)) for name in support.BACKENDS}
        for row in ROWS
    }
    before, _, rest = text.partition(BEGIN)
    README.write_text(before + drawn(cells) + rest.partition(END)[2], encoding="utf-8")


@pytest.mark.parametrize("lib", support.params())
@pytest.mark.parametrize("row", ROWS)
def test_the_readme_says_what_works(row: str, lib: Lib) -> None:
    said = written(README.read_text(encoding="utf-8"))[row][lib.name]
    if said == NOT_RUN and lib.name == "cupy":
        ROWS[row](lib)  # the first machine with a GPU: say what is wrong; then write the table
    elif said == "yes":
        ROWS[row](lib)  # its own error says more than a comparison of words
    else:
        assert said == cell(row, lib), "the README is out of date: run `python tests/test_readme.py --write`"


def test_the_table_is_whole() -> None:
    found = written(README.read_text(encoding="utf-8"))
    assert list(found) == list(ROWS)
    assert all(list(row) == list(support.BACKENDS) for row in found.values())
    assert {said for row in found.values() for said in row.values()} <= {"yes", "no", NOT_RUN}
    assert {name for row in found.values() for name, said in row.items() if said == NOT_RUN} <= {"cupy"}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/test_readme.py --write")
    os.environ["JAX_ENABLE_X64"] = "1"
    main()
