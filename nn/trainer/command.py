"""``agnostic-ad train``: a network learns images, with all of the run in one folder."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import agnostic_ad as ad
from agnostic_ad.cli import UserError, namespace
from agnostic_ad.config import place
from agnostic_ad.encodings import replace_file
from agnostic_ad.nn import optim
from agnostic_ad.nn.class_loss import CrossEntropyLoss
from agnostic_ad.nn.data import DataLoader, TensorDataset, datasets, random_split
from agnostic_ad.nn.trainer.callbacks import Callback, EarlyStopping
from agnostic_ad.nn.trainer.checkpoints import CheckpointWarning
from agnostic_ad.nn.trainer.config import add_options, as_toml, read_toml, settings
from agnostic_ad.nn.trainer.drawings import ConfusionPlot, Curves
from agnostic_ad.nn.trainer.logs import ProgressBar, TensorBoard
from agnostic_ad.nn.trainer.metrics import F1, Accuracy, ConfusionMatrix
from agnostic_ad.nn.trainer.models import cnn, mlp
from agnostic_ad.nn.trainer.trainer import Trainer

__all__ = ["main"]

Settings = dict[str, Any]
_OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": lambda params, **options: optim.SGD(params, momentum=0.9, **options),
}


def main(parser: argparse.ArgumentParser, given: Sequence[str]) -> int:
    """Run the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        An empty one, whose ``error`` ends the program with status 2.
    given : sequence of str
        The arguments.

    Returns
    -------
    int
        0 on success.
    """
    add_options(parser.add_argument)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML, one a line: the flags' names; flags come first")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="the folder for all of the run (default: out)")
    parser.add_argument(
        "--resume",
        default="never",
        metavar="auto|never|FILE",
        help="go on from the newest good checkpoint in DIR, with the settings of then, or begin if there is none; begin anew, with older "
        "checkpoints moved to checkpoints.old; or go on from this checkpoint (default: never)",
    )
    arguments = parser.parse_args(given)
    out: Path = arguments.out
    flags = {name.replace("_", "-"): value for name, value in vars(arguments).items() if name not in ("config", "out", "resume")}
    layers = [flags]
    if arguments.config is not None:
        layers.insert(0, read_toml(arguments.config))
    if arguments.resume == "auto" and (out / "config.toml").is_file():
        layers.insert(0, read_toml(out / "config.toml"))
    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        show = warnings.showwarning
        warnings.showwarning = lambda message, kind, *rest, **more: (
            _told(message) if kind is CheckpointWarning else show(message, kind, *rest, **more)
        )
        return train(settings(*layers), out, None if arguments.resume == "never" else arguments.resume)


def _told(message: Warning | str) -> None:
    print(f"agnostic-ad train: {message}", file=sys.stderr)


def train(chosen: Settings, out: Path, resume: str | None) -> int:
    """Train as settings say."""
    xp = namespace(chosen["namespace"])
    _writable(out)
    _needs("matplotlib", "rich", "threadpoolctl")
    with _threads(chosen), _defaults(xp, chosen):
        kind: Any = datasets.Digits if chosen["dataset"] == "digits" else datasets.FashionMNIST
        images, tests = _of_dtype(kind(train=True), chosen["dtype"]), _of_dtype(kind(train=False), chosen["dtype"])
        classes = kind.classes
        shape = images.tensors[0].shape[1:]
        ad.manual_seed(chosen["seed"])
        model = (mlp if chosen["model"] == "mlp" else cnn)(shape, len(classes))
        about = {"xp": xp, "device": chosen["device"]}
        validation = {"test": DataLoader(tests, 1000, **about)}
        training: Any = images
        if chosen["validation"]:
            training, held = random_split(images, [1 - chosen["validation"], chosen["validation"]], seed=chosen["seed"])
            validation = {"val": DataLoader(held, 1000, **about), **validation}
        loader = DataLoader(
            training,
            chosen["batch-size"],
            shuffle=True,
            num_workers=chosen["workers"],
            seed=chosen["seed"],
            persistent_workers=chosen["workers"] > 0,
            **about,
        )
        optimizer = _OPTIMIZERS[chosen["optimizer"]](model.parameters(), lr=chosen["lr"], weight_decay=chosen["weight-decay"])
        scheduler, every = _schedule(chosen, optimizer, math.ceil(len(loader) / chosen["accumulate"]) * chosen["epochs"])
        callbacks = [_Run(chosen), ProgressBar(), TensorBoard(), Curves(), ConfusionPlot(classes)]
        if chosen["patience"] is not None:
            callbacks.append(EarlyStopping(chosen["patience"]))
        trainer = Trainer(
            model,
            CrossEntropyLoss(label_smoothing=chosen["label-smoothing"]),
            optimizer,
            scheduler=scheduler,
            scheduler_every=every,
            metrics=[Accuracy(), F1(len(classes)), ConfusionMatrix(len(classes))],
            callbacks=callbacks,
            clip_norm=chosen["clip-norm"],
            accumulate=chosen["accumulate"],
            ema=chosen["ema"],
            amp=chosen["amp"],
            out=out,
            checkpoint_every=chosen["checkpoint-every"],
            keep=chosen["keep"],
            monitor=f"{next(iter(validation))}_accuracy",
            mode="max",
        )
        size = sum(p.size for p in model.parameters())
        print(
            f"{chosen['model']} of {size:,} parameters on {chosen['dataset']} ({len(images):,} + {len(tests):,} images), "
            f"{chosen['namespace']} {chosen['dtype']}, seed {chosen['seed']}"
        )
        history = trainer.fit(loader, chosen["epochs"], validation, resume=resume)
    print(f"wrote {out}/model.safetensors, loss.png, confusion.png, log.jsonl, log.csv, checkpoints")
    print(f"test accuracy {history[-1]['test_accuracy']:.2%}")
    return 0


class _Run(Callback):
    """Writes down with which settings a run begins, or goes on, and says from where."""

    def __init__(self, chosen: Settings) -> None:
        self.chosen = chosen

    def on_start(self, trainer: Trainer) -> None:
        assert trainer.out is not None

        def write(file: IO[bytes]) -> None:
            file.write(as_toml(self.chosen).encode())

        replace_file(trainer.out / "config.toml", write)
        if trainer.resumed_from is not None:
            print(f"going on from {trainer.resumed_from}: {trainer.epoch} epochs and {trainer.step} steps are done")


def _schedule(chosen: Settings, optimizer: Any, steps: int) -> tuple[Any, str]:
    """Give the scheduler, and when it steps. Those by steps are functions of settings alone: a run that goes on may be longer than planned."""
    warm = max(1, steps // 5)
    if chosen["schedule"] == "plateau":
        return optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=2), "epoch"
    if chosen["schedule"] == "constant":
        return None, "epoch"
    if chosen["schedule"] == "cosine":
        warm = 0

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))) / 2

    return optim.lr_scheduler.LambdaLR(optimizer, factor), "step"


def _of_dtype(dataset: Any, dtype: str) -> Any:
    return dataset if dtype == "float32" else TensorDataset(dataset.tensors[0].astype(dtype), dataset.tensors[1])


def _needs(*libraries: str) -> None:
    import importlib.util

    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install 'agnostic_ad[train]'")


def _threads(chosen: Settings) -> Any:
    """Limit the threads of BLAS and OpenMP. Several of them share the small products of these networks badly, all the more so on a busy machine."""
    import importlib

    number = chosen["threads"] or (1 if chosen["namespace"] == "numpy" else None)
    return importlib.import_module("threadpoolctl").threadpool_limits(number)


def _defaults(xp: Any, chosen: Settings) -> Any:
    """Set the library, dtype and device, after trying them."""
    name, dtype, device = chosen["namespace"], chosen["dtype"], chosen["device"]
    try:
        where = place(xp, dtype, device)
        assert where.backend is not None
        found = where.backend.xp.zeros((1,), dtype=where.dtype, device=where.device)
        where.backend.to_numpy(found + found)
    except Exception as error:  # whatever a library says of a device that it does not have
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{name} cannot compute{f' on device {device!r}' if device else ''}: {text[0]}") from None
    if not str(found.dtype).endswith(dtype):
        raise UserError(f"{name} gives {found.dtype} for {dtype}; for jax, set JAX_ENABLE_X64=1")
    if chosen["amp"] is not None and not hasattr(where.backend.xp, chosen["amp"]):
        raise UserError(f"{name} has no dtype {chosen['amp']}, which --amp asks for")
    return ad.defaults(xp=xp, dtype=dtype, device=device)


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None
