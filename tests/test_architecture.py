"""The house (docs/how-it-works.md): imports go one way, bottom to top, and heavy libraries only where they are at home."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import support

# The engine's modules, bottom to top. A module imports from its own floor and from those below. On the floor APART modules
# know nothing of each other. A module that stands on no floor fails the test: say where it belongs.
FLOORS: list[set[str]] = [
    {"errors", "trees", "namespaces", "backends", "samples"},
    {"levels", "op", "families", "wrapped", "rules", "views", "config", "random", "encodings", "tensorfiles"},
    {"ops"},
    {"reverse", "tape", "fast", "forward", "batching", "graph"},
    {
        "arguments",
        "modes",
        "transforms",
        "mapping",
        "jacobians",
        "flatrules",
        "controlgraphs",
        "controlrules",
        "custom",
        "checkpointing",
        "checking",
        "compiling",
        "holdings",
        "stepping",
    },
    {"", "numpy_names", "functions", "dropin", "numpy", "cupy", "einops", "protocols", "cli", "__main__"},  # "" is agnostic_ad/__init__.py
]
APART = 3
TOGETHER = {"reverse", "tape", "fast"}  # reverse mode, in three files; it stands apart from the others on its floor

# Modules that may name nn and conformance, and only inside a function: the command line runs what stands above the engine.
ABOVE_INSIDE_FUNCTIONS = {"agnostic_ad.cli"}

HEAVY = {
    "PIL", "autograd", "array_api_strict", "cupy", "cupyx", "dask", "einops", "jax", "jaxlib", "matplotlib", "mparray", "mpmath", "numba", "onnx", "onnxruntime", "pandas", "pyarrow", "rich",
    "safetensors", "scipy", "sklearn", "torch",
}  # fmt: skip
HOMES = {f"agnostic_ad.backends.{name}": {name} for name in HEAVY}
HOMES |= {"agnostic_ad.backends.cupy": {"cupy", "cupyx"}, "agnostic_ad.backends.jax": {"jax", "jaxlib"}}
HOMES |= {
    "agnostic_ad.backends.torch_nn": {"torch"},
    "agnostic_ad.backends.jax_nn": {"jax"},
    "agnostic_ad.backends.jax_control": {"jax"},
    "agnostic_ad.backends.dask_linalg": {"dask"},
    "agnostic_ad.backends.numba_kernels": {"numba"},
}
HOMES |= {"agnostic_ad.backends.mparray": {"mparray", "mpmath"}}
HOMES |= {"agnostic_ad.einops": {"einops"}}
HOMES |= {"agnostic_ad.cupy": {"cupy", "cupyx"}, "agnostic_ad.backends.strict": {"array_api_strict"}}


@dataclass(frozen=True)
class Import:
    target: str  # the full name of what is imported, a module or a name in one
    line: int
    inside: bool  # a function
    typing_only: bool


def imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Yield every import of a module, with relative ones made absolute."""

    def base(node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts, node.module] if node.module else parts)

    def walk(node: ast.AST, inside: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, inside, typing_only)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(f"{base(node)}.{alias.name}", node.lineno, inside, typing_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, inside, True)
            for child in node.orelse:
                yield from walk(child, inside, typing_only)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, inside or function, typing_only)

    yield from walk(tree, False, False)


def engine_part(name: str) -> str | None:
    """Give the part of the engine that a full name belongs to: `ops` of `agnostic_ad.ops.linalg.qr`; None outside the engine."""
    if name != "agnostic_ad" and not name.startswith("agnostic_ad."):
        return None
    part = name.split(".")[1] if "." in name else ""
    if part in {"nn", "conformance"}:
        return None
    return part if any(part in floor for floor in FLOORS) or f"agnostic_ad.{part}" in support.modules() else ""


def above_engine(name: str) -> bool:
    return name.split(".")[:2] in (["agnostic_ad", "nn"], ["agnostic_ad", "conformance"])


def floor(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def library(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "array_api_compat" and len(parts) > 1:  # array_api_compat.torch imports torch
        return parts[1]
    return parts[0]


def faults(module: str, source: str, is_package: bool = False) -> list[str]:
    """List what is wrong with the imports of one module."""
    found = []
    part = engine_part(module)
    for each in imports(ast.parse(source), module, is_package):
        where = f"{module}:{each.line} imports {each.target}"
        target = engine_part(each.target)
        if each.target.split(".")[0] in {"nn", "conformance"}:
            found.append(f"{where}: say agnostic_ad.{each.target}")
        if library(each.target) in HEAVY - HOMES.get(module, set()) and not (each.inside or each.typing_only):
            found.append(f"{where}: import it inside the function that needs it")
        if each.typing_only:
            continue
        if part is not None:
            if above_engine(each.target) and not (module in ABOVE_INSIDE_FUNCTIONS and each.inside):
                found.append(f"{where}: the engine knows nothing of nn and conformance")
            if target is not None and target != part:
                if floor(target) > floor(part):
                    found.append(f"{where}: floor {floor(part)} knows nothing of floor {floor(target)}")
                elif floor(target) == floor(part) == APART and not {target, part} <= TOGETHER:
                    found.append(f"{where}: these two know nothing of each other")
        elif module.startswith("agnostic_ad.nn") and each.target.startswith("agnostic_ad.conformance"):
            found.append(f"{where}: nn knows nothing of conformance")
    return found


MODULES = support.modules()
ENGINE = [name for name in MODULES if engine_part(name) is not None]


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    path = MODULES[name]
    assert faults(name, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


@pytest.mark.parametrize("name", [name for name in ENGINE if name.count(".") == 1])
def test_every_module_of_the_engine_stands_on_one_floor(name: str) -> None:
    assert sum(name.split(".")[1] in parts for parts in FLOORS) == 1, f"add {name} to FLOORS, where the design puts it"


def test_the_engine_has_no_import_cycle() -> None:
    """Modules that import each other while they load work only in one order."""
    edges: dict[str, set[str]] = {}
    for name in ENGINE:
        path = MODULES[name]
        edges[name] = set()
        for each in imports(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py"):
            if each.inside or each.typing_only:
                continue
            target = each.target if each.target in MODULES else each.target.rpartition(".")[0]
            loading = name == target or name.startswith(f"{target}.")  # a package's own parts load after it began
            if target in ENGINE and not loading:
                edges[name].add(target)
    while leaves := {name for name in edges if not edges[name] & edges.keys()}:
        for name in leaves:
            del edges[name]
    assert {name: sorted(edges[name] & edges.keys()) for name in edges} == {}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("agnostic_ad.levels", "from .ops import linalg", "knows nothing of floor 2"),
        ("agnostic_ad.levels", "def f():\n    import agnostic_ad.reverse", "knows nothing of floor 3"),
        ("agnostic_ad.levels", "import agnostic_ad", "knows nothing of floor 5"),
        ("agnostic_ad.reverse", "from agnostic_ad.forward import Dual", "know nothing of each other"),
        ("agnostic_ad.graph.nodes", "from ..reverse import Variable", "know nothing of each other"),
        ("agnostic_ad.transforms", "from agnostic_ad import nn", "nothing of nn"),
        ("agnostic_ad.cli", "from .nn import Linear", "nothing of nn"),
        ("agnostic_ad.nn.linear", "import agnostic_ad.conformance", "nn knows nothing of conformance"),
        ("agnostic_ad.nn.linear", "import nn.functional", "say agnostic_ad.nn.functional"),
        ("agnostic_ad.nn.linear", "from torch import Tensor", "inside the function"),
        ("agnostic_ad.backends.numpy", "import array_api_compat.torch", "inside the function"),
        ("agnostic_ad.backends.torch", "try:\n    import jax\nexcept ImportError:\n    pass", "inside the function"),
    ],
)
def test_a_fault_is_seen(module: str, source: str, complaint: str) -> None:
    assert any(complaint in fault for fault in faults(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agnostic_ad.reverse", "from . import levels\nfrom .op import Op\nfrom .ops import TABLE\nimport numpy"),
        ("agnostic_ad.graph", "from .graph.nodes import Node"),
        ("agnostic_ad.cli", "def train():\n    from . import nn\n    import rich"),
        ("agnostic_ad.backends.torch", "import torch"),
        ("agnostic_ad.backends.torch", "import array_api_compat.torch"),
        ("agnostic_ad.levels", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .reverse import Variable"),
        ("agnostic_ad.nn.linear", "import agnostic_ad as ad\nfrom agnostic_ad.transforms import grad"),
        ("agnostic_ad.conformance.run", "from agnostic_ad import nn\nfrom agnostic_ad.ops import TABLE"),
    ],
)
def test_what_is_allowed(module: str, source: str) -> None:
    assert faults(module, source) == []


@pytest.mark.parametrize("name", ["agnostic_ad", "agnostic_ad.nn", "agnostic_ad.conformance", "agnostic_ad.cli"])
def test_import_brings_in_nothing_heavy(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"there is no {name}")
    code = f"import json, sys, {name}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert HEAVY & set(json.loads(ran.stdout)) == set()
