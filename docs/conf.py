"""Sphinx: the pages beside this file, and a reference generated from what the package exports."""

import importlib
import inspect
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

project = "agnostic_ad"
author = "The agnostic_ad developers"
copyright = "The agnostic_ad developers"
release = version = installed_version("agnostic_ad")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False
suppress_warnings = ["config.cache"]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's Parameters say it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "agnostic_ad"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"], "navigation_with_keys": False}
html_sidebars = {"index": [], "quickstart": [], "how-it-works": [], "transformations": [], "backends": []}
html_show_sourcelink = False

# ----------------------------------------------------------------------------------------------------
# docs/generated/reference.rst: one section for each public module, one row for each name that it exports

PUBLIC = [
    ("agnostic_ad", "The engine"),
    ("agnostic_ad.trees", "Trees"),
    ("agnostic_ad.graph", "Define, then run"),
    ("agnostic_ad.backends", "Backends"),
    ("agnostic_ad.errors", "Errors"),
    ("agnostic_ad.nn", "Modules"),
    ("agnostic_ad.nn.functional", "Functions of nn"),
    ("agnostic_ad.nn.init", "Initial values"),
    ("agnostic_ad.nn.utils", "Utilities of nn"),
    ("agnostic_ad.nn.utils.rnn", "Sequences of different lengths"),
    ("agnostic_ad.nn.utils.parametrize", "Functions as parameters"),
    ("agnostic_ad.nn.utils.parametrizations", "Parametrizations"),
    ("agnostic_ad.nn.utils.prune", "Pruning"),
    ("agnostic_ad.nn.amp", "Mixed precision"),
    ("agnostic_ad.nn.optim", "Optimizers"),
    ("agnostic_ad.nn.optim.lr_scheduler", "Schedulers"),
    ("agnostic_ad.nn.optim.swa_utils", "Averages of models"),
    ("agnostic_ad.nn.trainer", "Training"),
    ("agnostic_ad.nn.caffe", "Caffe"),
    ("agnostic_ad.nn.data", "Data"),
    ("agnostic_ad.nn.data.datasets", "Data sets"),
    ("agnostic_ad.nn.data.transforms", "Transforms"),
    ("agnostic_ad.nn.data.transforms.functional", "Functions of transforms"),
    ("agnostic_ad.conformance", "Conformance"),
]


def exported(name: str) -> list[str]:
    """Names of this package's own that a module exports and documents; nothing where there is no such module."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name and (missing.name == name or name.startswith(missing.name + ".")):
            return []
        raise
    names = [each for each in getattr(module, "__all__", []) if not each.startswith("__")]
    values = {each: getattr(module, each) for each in names}
    ours = {each: value for each, value in values.items() if str(getattr(value, "__module__", "")).startswith("agnostic_ad")}
    return [each for each, value in ours.items() if not inspect.ismodule(value) and inspect.getdoc(value)]


def write_reference(folder: Path) -> None:
    parts, told = ["API reference\n=============\n"], set[int]()
    for name, title in PUBLIC:
        values = {each: id(getattr(sys.modules[name], each)) for each in exported(name)}
        names = [each for each, value in values.items() if value not in told]  # each in the first module that exports it
        told |= set(values.values())
        if not names and name not in sys.modules:
            continue
        parts.append(f"{title}\n{'-' * len(title)}\n\n.. automodule:: {name}\n   :no-members:\n")
        if names:
            rows = "\n".join(f"   {each}" for each in sorted(names, key=str.lower))
            parts.append(f".. currentmodule:: {name}\n\n.. autosummary::\n   :toctree: api\n   :nosignatures:\n\n{rows}\n")
    folder.mkdir(exist_ok=True)
    (folder / "reference.rst").write_text("\n".join(parts), encoding="utf-8")


write_reference(Path(__file__).parent / "generated")
