"""The settings of ``agnostic-ad train``: one table, for the flags and for files of TOML."""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnostic_ad.cli import NAMESPACES, UserError, count, fraction, natural, nonnegative, positive, seed

__all__ = ["OPTIONS", "RECIPES", "Option", "add_options", "as_toml", "read_toml", "settings"]

RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 20, "batch-size": 32, "lr": 1e-3, "schedule": "constant"},
    "fashion-mnist": {"epochs": 6, "batch-size": 128, "lr": 6e-3, "schedule": "warmup"},
}
"""By data set, the settings that suit it where the user gives none."""


@dataclass(frozen=True)
class Option:
    """A setting: its name, the default, what it is for, and how it is read; ``parse`` is a function of its text, or the texts to choose from."""

    name: str
    default: Any
    help: str
    parse: Callable[[str], Any] | tuple[str, ...]

    def read(self, value: Any, where: str) -> Any:
        """Check a value from a file."""
        text = str(value)
        if isinstance(self.parse, tuple):
            if value in self.parse:
                return value
            near = difflib.get_close_matches(text, self.parse, 1)
            raise UserError(
                f"{where}: {self.name} is one of {', '.join(self.parse)}, not {value!r}{f'; {near[0]!r} is near' if near else ''}"
            )
        if isinstance(value, bool | list):
            raise UserError(f"{where}: {self.name}: a number or a text is wanted, not {value!r}")
        try:
            return self.parse(text)
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{where}: {self.name}: {error}") from None


def _by_recipe(name: str) -> str:
    return ", ".join(f"{recipe[name]} for {dataset}" for dataset, recipe in RECIPES.items())


OPTIONS = [
    Option("dataset", "digits", "the images; digits need no network", tuple(RECIPES)),
    Option("namespace", "numpy", "the array library", tuple(NAMESPACES)),
    Option("device", None, 'such as "cpu" or "cuda:0" (default: the library\'s choice)', str),
    Option("threads", None, "of the host's libraries (default: 1 for numpy, whose numbers then repeat; else the library's choice)", count),
    Option("dtype", "float32", "of the parameters", ("float32", "float64")),
    Option("model", "mlp", "linear layers or convolutions", ("mlp", "cnn")),
    Option("epochs", None, f"passes over the images (default: {_by_recipe('epochs')})", count),
    Option("batch-size", None, f"images at a time (default: {_by_recipe('batch-size')})", count),
    Option("seed", 0, "of weights and order; the same on every library", seed),
    Option("optimizer", "adam", "how gradients become steps; sgd has the momentum 0.9", ("adam", "adamw", "sgd")),
    Option("lr", None, f"the size of steps (default: {_by_recipe('lr')})", positive),
    Option("weight-decay", 0.0, "how much weights shrink in a step", nonnegative),
    Option(
        "schedule",
        None,
        f"how the size of steps goes on (default: {_by_recipe('schedule')})",
        ("constant", "cosine", "warmup", "plateau"),
    ),
    Option("label-smoothing", 0.0, "the part of each target that goes to all classes", fraction),
    Option("clip-norm", None, "how long the gradient may be (default: as it is)", positive),
    Option("accumulate", 1, "how many batches make a step", count),
    Option("ema", None, "the decay of an average of the weights, such as 0.999 (default: none)", fraction),
    Option("amp", None, "compute products in 16 bits (default: no)", ("float16", "bfloat16")),
    Option("workers", 0, "processes that fetch images", natural),
    Option("validation", 0.0, "the part of the training images that is held out, and says which weights are best", fraction),
    Option("patience", None, "stop after more than so many epochs without improvement (default: never)", count),
    Option("checkpoint-every", None, "after how many steps to write a checkpoint (default: after epochs alone)", count),
    Option("keep", 3, "how many of the last checkpoints to keep", count),
]
_BY_NAME = {option.name: option for option in OPTIONS}


def add_options(add: Callable[..., Any]) -> None:
    """Add a flag for each setting. Those that are not given are None."""
    for option in OPTIONS:
        text = option.help if "default" in option.help else f"{option.help} (default: {option.default})"
        if isinstance(option.parse, tuple):
            add(f"--{option.name}", choices=option.parse, help=text)
        else:
            add(f"--{option.name}", type=option.parse, help=text, metavar=option.name.upper().replace("-", "_"))


def read_toml(path: Path) -> dict[str, Any]:
    r"""Read settings from a file.

    Parameters
    ----------
    path : Path
        TOML, with a line for each setting: the flag without its dashes, or with underscores in it. Tables are for the eye alone.

    Returns
    -------
    dict of str to object
        By the names of `OPTIONS`.

    Raises
    ------
    UserError
        If it cannot be read, or for a setting or a value that there is not; the text says which is near.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("run.toml").write_text('dataset = "fashion-mnist"\n[optimizer]\nlr = 0.01\n')
    >>> from agnostic_ad.nn.trainer.config import read_toml
    >>> read_toml(Path("run.toml"))
    {'dataset': 'fashion-mnist', 'lr': 0.01}
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from None
    return dict(_entries(found, str(path)))


def _entries(table: Mapping[str, Any], where: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        option = _BY_NAME.get(key.replace("_", "-"))
        if isinstance(value, dict):
            found += _entries(value, where)
        elif option is None:
            near = difflib.get_close_matches(key.replace("_", "-"), _BY_NAME, 1, cutoff=0.5)
            hint = f"{near[0]!r} is the nearest" if near else f"there are {', '.join(_BY_NAME)}"
            raise UserError(f"{where}: there is no setting {key!r}; {hint}")
        else:
            found.append((option.name, option.read(value, where)))
    return found


def settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Give all settings: each from the last layer that has it, else from the recipe of its data set, else the default."""
    given = {name: value for layer in layers for name, value in layer.items() if value is not None}
    defaults = {option.name: option.default for option in OPTIONS}
    dataset = given.get("dataset", defaults["dataset"])
    return defaults | RECIPES[dataset] | given


def as_toml(values: Mapping[str, Any]) -> str:
    """Write settings down; those that are None are left out."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None)
