"""The command line: ``agnostic-ad info | train | conformance | bench``. What is heavy is imported where it is used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from agnostic_ad.errors import AgnosticADError

__all__ = ["NAMESPACES", "UserError", "count", "fraction", "main", "namespace", "natural", "nonnegative", "positive", "seed"]

NAMESPACES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "cupy": "cupy", "array_api_strict": "array_api_strict"}
EXTRAS = {"cupy": "cupy13", "array_api_strict": "test"}


class UserError(AgnosticADError):
    """What the user asked for cannot be done; the text says why, in one line."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit status: 0 on success.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    try:
        if given[:1] == ["train"]:
            return _train(given[1:])
        if given[:1] == ["bench"]:
            return _bench(given[1:])
        if given[:1] == ["conformance"]:
            return _conformance(given[1:])
        arguments = parser.parse_args(given)
        return int(arguments.run(arguments))
    except (AgnosticADError, ImportError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"agnostic-ad {' '.join(given[:1])}: error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("agnostic-ad: interrupted", file=sys.stderr)
        return 130


def _parser() -> _Parser:
    parser = _Parser(prog="agnostic-ad", description="Automatic differentiation over the Python Array API standard.")
    commands = parser.add_subparsers(title="commands", metavar="info | train | conformance | bench", required=True)
    info = commands.add_parser("info", help="versions, and the array libraries and devices found", description=_info.__doc__)
    info.set_defaults(run=_info)
    commands.add_parser("train", help="train a network on real images", add_help=False)
    commands.add_parser("conformance", help="check every operation of the table on an array library", add_help=False)
    commands.add_parser("bench", help="measure beside the peers", add_help=False)
    return parser


def _number(kind: type, accepts: Any, what: str) -> Any:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{what} is wanted, not {text!r}")
        return value

    return parse


count = _number(int, lambda n: n > 0, "an integer of 1 or more")
seed = natural = _number(int, lambda n: n >= 0, "an integer of 0 or more")
positive = _number(float, lambda x: 0 < x < float("inf"), "a number above 0")
nonnegative = _number(float, lambda x: 0 <= x < float("inf"), "a number of 0 or more")
fraction = _number(float, lambda x: 0 <= x < 1, "a number from 0 to 1, without 1 itself,")


def _info(arguments: argparse.Namespace) -> int:
    """Show versions, and the array libraries and devices found here."""
    import platform

    import agnostic_ad as ad

    print(f"agnostic_ad {ad.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name, found in ad.backends.available().items():
        print(f"{name} {found['version']}: {found['error'] if 'error' in found else ', '.join(found['devices'])}")
    return 0


def _train(rest: list[str]) -> int:
    """Train a network on real images: its accuracy after each epoch, curves, logs, and checkpoints to go on from, all in one folder."""
    from agnostic_ad.nn.trainer.command import main

    return main(_Parser(prog="agnostic-ad train", description=_train.__doc__), rest)


def _conformance(rest: list[str]) -> int:
    """Check every operation of the table on an array library: values, derivatives, batches. Status 1 where any check fails."""
    from agnostic_ad.conformance.command import main

    return main(_Parser(prog="agnostic-ad conformance", description=_conformance.__doc__), rest)


def _bench(rest: list[str]) -> int:
    """Run the benchmarks of the source tree."""
    import importlib

    trees = [Path.cwd(), Path(__file__).resolve().parent.parent]
    found = next((tree for tree in trees if (tree / "benchmarks" / "command.py").is_file()), None)
    if found is None:
        raise UserError("there is no folder `benchmarks` here. Run this in a clone of the source; the installed package has none.")
    sys.path.insert(0, str(found))
    return int(importlib.import_module("benchmarks").main(rest) or 0)


def namespace(name: str) -> Any:
    """Import an array library that the user named."""
    import importlib

    try:
        return importlib.import_module(NAMESPACES[name])
    except ImportError as error:
        missing = getattr(error, "name", None)
        if missing is not None and missing.partition(".")[0] == NAMESPACES[name].partition(".")[0]:
            raise UserError(f"{name} is not installed: pip install 'agnostic_ad[{EXTRAS.get(name, name)}]'") from None
        raise UserError(f"{name} cannot be imported: {error}") from None
