"""The command line: ``agnostic-ad info | train | conformance | bench``. What is heavy is imported where it is used."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from agnostic_ad.errors import AgnosticADError

__all__ = ["count", "main", "positive", "seed"]

NAMESPACES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "cupy": "cupy", "array_api_strict": "array_api_strict"}
EXTRAS = {"cupy": "cupy13", "array_api_strict": "test"}
EPOCHS = {"digits": 20, "fashion-mnist": 3}


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
    train = commands.add_parser("train", help="train a network on real images", description=_train.__doc__)
    train.set_defaults(run=_train)
    train.add_argument("--dataset", choices=list(EPOCHS), default="digits", help="the images (default: digits, which need no network)")
    train.add_argument("--namespace", choices=list(NAMESPACES), default="numpy", help="the array library (default: numpy)")
    train.add_argument("--model", choices=["mlp", "cnn"], default="mlp", help="linear layers or convolutions (default: mlp)")
    train.add_argument("--epochs", type=count, help="passes over the images (default: 20 for digits, 3 for fashion-mnist)")
    train.add_argument("--batch-size", type=count, help="images at a time (default: 32 for digits, 128 for fashion-mnist)")
    train.add_argument("--lr", type=positive, default=1e-3, help="the step of Adam (default: 0.001)")
    train.add_argument("--seed", type=seed, default=0, help="of weights and order; the same on every library (default: 0)")
    train.add_argument("--device", help='such as "cpu" or "cuda:0" (default: the library\'s choice)')
    train.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of the parameters (default: float32)")
    train.add_argument("--out", type=Path, default=Path("out"), help="the folder for model.safetensors, loss.png, log.jsonl (default: out)")
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
seed = _number(int, lambda n: n >= 0, "an integer of 0 or more")
positive = _number(float, lambda x: 0 < x < float("inf"), "a number above 0")


def _info(arguments: argparse.Namespace) -> int:
    """Show versions, and the array libraries and devices found here."""
    import platform

    import agnostic_ad as ad

    print(f"agnostic_ad {ad.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name, found in ad.backends.available().items():
        print(f"{name} {found['version']}: {found['error'] if 'error' in found else ', '.join(found['devices'])}")
    return 0


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


# --- train ------------------------------------------------------------------------------------------------------------------------------
def _train(arguments: argparse.Namespace) -> int:
    """Train a network on real images: its accuracy after each epoch, a checkpoint, a loss curve."""
    import agnostic_ad as ad
    from agnostic_ad import nn
    from agnostic_ad.nn.train import accuracy, cnn, mlp, train_epoch

    digits = arguments.dataset == "digits"
    epochs, batch = arguments.epochs or EPOCHS[arguments.dataset], arguments.batch_size or (32 if digits else 128)
    xp = _namespace(arguments.namespace)
    _writable(arguments.out)
    _needs("matplotlib", "rich")
    with _defaults(ad, xp, arguments):
        dataset = nn.data.datasets.Digits if digits else nn.data.datasets.FashionMNIST
        train: Any = dataset(train=True)
        test: Any = dataset(train=False)
        classes = len(train.classes)
        ad.manual_seed(arguments.seed)
        images = train.tensors[0]
        model = (mlp if arguments.model == "mlp" else cnn)(images.shape[1:], classes)
        if arguments.dtype != "float32":
            train, test = (nn.data.TensorDataset(d.tensors[0].astype(arguments.dtype), d.tensors[1]) for d in (train, test))
        place = {"xp": xp, "device": arguments.device}
        loader = nn.data.DataLoader(train, batch, shuffle=True, seed=arguments.seed, **place)
        tests = nn.data.DataLoader(test, 1000, **place)
        optimizer, loss_fn = nn.optim.Adam(model.parameters(), lr=arguments.lr), nn.CrossEntropyLoss()
        size = sum(p.size for p in model.parameters())
        print(
            f"{arguments.model} of {size:,} parameters on {arguments.dataset} ({len(train):,} + {len(test):,} images), "
            f"{arguments.namespace} {arguments.dtype}, seed {arguments.seed}"
        )
        losses: list[float] = []
        right = 0.0
        with _progress() as bar, open(arguments.out / "log.jsonl", "w", encoding="utf-8") as log:
            for epoch in range(1, epochs + 1):
                task = bar.add_task(f"epoch {epoch}/{epochs}", total=len(loader))
                start = time.perf_counter()
                new = train_epoch(model, loss_fn, optimizer, loader, lambda task=task: bar.advance(task))  # type: ignore[misc]
                seconds = time.perf_counter() - start
                right = accuracy(model, tests)
                for step, loss in enumerate(new, start=len(losses) + 1):
                    print(json.dumps({"step": step, "epoch": epoch, "loss": loss}), file=log)
                mean = sum(new) / len(new)
                print(json.dumps({"epoch": epoch, "train_loss": mean, "test_accuracy": right, "seconds": seconds}), file=log, flush=True)
                losses += new
                bar.remove_task(task)
                bar.console.print(f"epoch {epoch}/{epochs}: loss {mean:.4f}, test accuracy {right:.2%}, {seconds:.1f} s", highlight=False)
        nn.save_file(model, arguments.out / "model.safetensors")
        _draw(losses, len(loader), arguments.out / "loss.png")
    print(f"wrote {arguments.out}/model.safetensors, loss.png, log.jsonl")
    print(f"test accuracy {right:.2%}")
    return 0


def _namespace(name: str) -> Any:
    """Import an array library that the user named."""
    import importlib

    try:
        return importlib.import_module(NAMESPACES[name])
    except ImportError as error:
        missing = getattr(error, "name", None)
        if missing is not None and missing.partition(".")[0] == NAMESPACES[name].partition(".")[0]:
            raise UserError(f"{name} is not installed: pip install 'agnostic_ad[{EXTRAS.get(name, name)}]'") from None
        raise UserError(f"{name} cannot be imported: {error}") from None


def _needs(*libraries: str) -> None:
    import importlib.util

    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install 'agnostic_ad[train]'")


def _defaults(ad: Any, xp: Any, arguments: argparse.Namespace) -> Any:
    """Set the library, dtype and device, after trying them."""
    from agnostic_ad.config import place

    try:
        where = place(xp, arguments.dtype, arguments.device)
        assert where.backend is not None
        found = where.backend.xp.zeros((1,), dtype=where.dtype, device=where.device)
        where.backend.to_numpy(found + found)
    except Exception as error:  # whatever a library says of a device that it does not have
        text = str(error).strip().splitlines() or [type(error).__name__]
        device = f" on device {arguments.device!r}" if arguments.device else ""
        raise UserError(f"{arguments.namespace} cannot compute{device}: {text[0]}") from None
    if not str(found.dtype).endswith(arguments.dtype):
        raise UserError(f"{arguments.namespace} gives {found.dtype} for {arguments.dtype}; for jax, set JAX_ENABLE_X64=1")
    return ad.defaults(xp=xp, dtype=arguments.dtype, device=arguments.device)


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.jsonl").write_text("", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    class Rate(ProgressColumn):  # type: ignore[misc]
        def render(self, task: Any) -> str:
            return f"{task.speed:,.0f} steps/s" if task.speed else ""

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    console = Console(soft_wrap=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _draw(losses: list[float], per_epoch: int, path: Path) -> None:
    """Draw the loss of every step, and the mean of every epoch."""
    import matplotlib.figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=0.6, alpha=0.6, label="each step")
    ends = range(per_epoch, len(losses) + 1, per_epoch)
    axes.plot(ends, [sum(losses[e - per_epoch : e]) / per_epoch for e in ends], "o-", label="mean of an epoch")
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)
