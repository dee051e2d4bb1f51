"""Layers, losses, optimizers and whole trainings: on a library they give what they give on NumPy in double precision, from one seed.

What is checked is what `agnostic_ad.nn` exports, in the configurations of `agnostic_ad.nn.samples`. How far off a number may be is measured
on NumPy: all that is given (inputs, initial values, cotangents) is moved by one rounding of the library's dtype, and what comes out with it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

import agnostic_ad as ad
from agnostic_ad import nn, trees
from agnostic_ad.conformance.catalogue import DTYPES, EPS, Call
from agnostic_ad.conformance.checking import has
from agnostic_ad.conformance.comparing import GRAINS, LawBroken, Place, host, inner, kept, near
from agnostic_ad.conformance.oracle import NUDGES, extrapolated, nudged
from agnostic_ad.conformance.report import Row
from agnostic_ad.errors import MissingFunctionError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of_namespace, lookup
from agnostic_ad.nn.samples import Sample, sample, samples, subjects
from agnostic_ad.nn.trainer import models
from agnostic_ad.op import TABLE
from agnostic_ad.random import default_generator
from agnostic_ad.samples import Case, integers

__all__ = ["LAWS", "TRAININGS", "check", "check_networks", "names"]

ROUNDINGS = 16.0
"""How many times the largest effect of a rounding in what is given a result may be off, beside as many roundings of its largest number."""
AIMS = (-1.0, 2.0, 0.5, 3.0, -2.0, 1.5, 0.0)
"""Where parameters should go in each step of an optimizer, times where they started: gradients change their signs. RAdam needs six to warm up."""
LONG = 50
"""Of a training."""
TRAININGS = {
    "training.mlp": (sample("models.mlp((1, 4, 4), 3, hidden=8)", (8, 1, 4, 4), integers((8,), 0, 2)), "nn.optim.Adam(params, lr=0.01)"),
    "training.cnn": (sample("models.cnn((1, 8, 8), 3)", (8, 1, 8, 8), integers((8,), 0, 2)), "nn.optim.SGD(params, lr=0.05, momentum=0.9)"),
}
"""Networks with their batches, and what changes them."""
SCALES = (1.0, 2.0**-4, 2.0**-8, 2.0**-12, 2.0**-16)
"""Of the steps of differences, one after the other until the error is good enough, relative to the derivative."""
GOOD = 1e-5

Numbers = dict[str, Any]
"""Raw arrays, and Python's numbers, by what they are."""


@dataclass(frozen=True)
class Setting:
    """One configuration in one place, with one seed.

    Attributes
    ----------
    sample : Sample
        The configuration.
    place : Place
        The library and the device.
    precision : str
        One of `agnostic_ad.conformance.catalogue.DTYPES`.
    seed : int
        Of initial values, inputs and cotangents.
    """

    sample: Sample
    place: Place
    precision: str
    seed: int

    def call(self, kind: str = "f") -> Call:
        """Give what draws arrays: its operation is never called."""
        return Call(TABLE["positive"], Case(self.sample.operands, {}, seed=self.seed), kind, self.precision)

    def draw(self, draw: int = 0, kind: str = "f") -> list[Any]:
        """Give arrays for the operands."""
        return self.call(kind).draw(self.place.backend, draw, self.place.device)

    def layer(self) -> Any:
        """Make the layer; its initial values are the seed's."""
        with _seeded(self.seed), ad.defaults(xp=self.place.backend.xp, dtype=DTYPES[self.precision]["f"], device=self.place.device):
            made = eval(self.sample.code, {"nn": nn, "models": models})
            if isinstance(made, nn.LazyModuleMixin):
                made.eval()(*self.draw())  # which gives it its initial values
                made.train()
            return made

    def optimizer(self, params: list[Any], code: str = "") -> Any:
        """Make the optimizer."""
        return eval(code or self.sample.code, {"nn": nn, "params": params})


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw initial values, and what is dropped, from a seed; go on afterwards as if nothing had been drawn."""
    before = default_generator.get_state()
    try:
        ad.manual_seed(seed)
        yield
    finally:
        default_generator.set_state(before)


# --- layers and losses --------------------------------------------------------------------------------------------------------------------
def _initial(s: Setting) -> Numbers:
    """Give inputs, and the layer's initial state, which is that of NumPy but for one rounding."""
    state = s.layer().state_dict()
    wanted = replace(s, place=NUMPY, precision="double").layer().state_dict()
    for name, x in wanted.items():
        near(f"the initial {name}", [state[name]], [x], [EPS[s.precision] * np.max(np.abs(x), initial=0.0)])
    return dict(state, **{f"x{i}": x for i, x in enumerate(s.draw())})


def _made(s: Setting, given: Numbers) -> tuple[Any, list[Any]]:
    """Give the layer in a given state, and its inputs; those that are inexact as Variables."""
    layer, inputs = s.layer(), [given[f"x{i}"] for i in range(len(s.sample.operands))]
    layer.load_state_dict({name: x for name, x in given.items() if name in layer.state_dict()})
    return layer, [x if o.kind else ad.Variable(x) for x, o in zip(inputs, s.sample.operands, strict=True)]


def _results(s: Setting, layer: Any, inputs: list[Any]) -> list[Any]:
    with _seeded(s.seed):
        return trees.leaves(layer(*inputs))


def _forward(s: Setting, given: Numbers) -> Numbers:
    layer, inputs = _made(s, given)
    found = Numbers()
    for mode in ("training", "evaluation"):
        layer.train(mode == "training")
        found |= {f"result {i} in {mode}": y.payload for i, y in enumerate(_results(s, layer, inputs))}
    return found | {f"the buffer {name} afterwards": b.payload for name, b in layer.named_buffers()}


def _directed(s: Setting) -> Numbers:
    """Give inputs, initial state, and cotangents of the results."""
    given = _initial(s)
    results = _results(s, *_made(s, given))
    return given | {f"ct{i}": s.call().like(s.place.backend, y.payload, i) for i, y in enumerate(results) if y.requires_grad}


def _backward(s: Setting, given: Numbers) -> Numbers:
    layer, inputs = _made(s, given)
    results = [y for y in _results(s, layer, inputs) if y.requires_grad]
    moving = {f"x{i}": x for i, x in enumerate(inputs) if isinstance(x, ad.Variable)} | dict(layer.named_parameters())
    cotangents = [x for name, x in given.items() if name.startswith("ct")]
    grads = ad.gradients(results, list(moving.values()), cotangents, allow_unused=True)
    for (name, x), grad in zip(moving.items(), grads, strict=True):
        kept(f"the gradient of {name}", grad, x.payload, s.place)
    return {f"the gradient of {name}": grad for name, grad in zip(moving, grads, strict=True)}


# --- optimizers ---------------------------------------------------------------------------------------------------------------------------
def _starts(s: Setting) -> Numbers:
    """Give parameters, complex ones too where the optimizer and the dtype have them, and where they should go, step by step.

    As the aim moves, and is rounded, so are gradients: otherwise no rounding would explain those of their differences.
    """
    starts = {f"{name}{i}": x for name, kind in _kinds(s).items() for i, x in enumerate(s.draw(kind=kind))}
    return starts | {f"aim {step} {name}": x * aim for step, aim in enumerate(AIMS) for name, x in starts.items()}


def _kinds(s: Setting) -> dict[str, str]:
    """Give the kinds of parameters, by how they are called."""
    formula = subjects()[s.sample.name].formula  # type: ignore[attr-defined]
    return {"x": "f", "z": "c"} if "c" in DTYPES[s.precision] and formula is not None and not formula.real else {"x": "f"}


def _optimized(s: Setting, given: Numbers) -> Numbers:
    params = {name: nn.Parameter(s.place.backend.own(x)) for name, x in given.items() if not name.startswith("aim")}
    optimizer, losses = s.optimizer(list(params.values())), {}

    def closure(step: int) -> Any:
        optimizer.zero_grad()
        loss: Any = 0.0
        for name, p in params.items():
            xp = ad.namespace(p)
            off = xp.abs(p - given[f"aim {step} {name}"])
            loss = xp.sum(off * off + 0.1 * off * off * off) + loss
        loss.backward()
        return loss

    for step in range(len(AIMS)):
        losses[f"the loss of step {step}"] = optimizer.step(lambda step=step: closure(step)).payload
    for name, x in given.items():
        if name in params:
            kept(f"the parameter {name}", params[name].payload, x, s.place)
    state = {key: value for key, value in optimizer.state_dict().items() if key != "param_groups"}
    return losses | {f"the parameter {name}": p.payload for name, p in params.items()} | dict(_numbers(state, "the state"))


def _numbers(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the numbers and arrays of a state, each with its path."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _numbers(value, f"{path} {key}")
    elif isinstance(tree, Array):
        yield path, tree.payload
    elif lookup(tree) is not None or isinstance(tree, int | float):
        yield path, tree


# --- trainings ----------------------------------------------------------------------------------------------------------------------------
def _trained(s: Setting, given: Numbers) -> Numbers:
    model, (x, y) = _made(s, given)
    optimizer = s.optimizer(list(model.parameters()), dict(TRAININGS.values())[s.sample])
    trainer = nn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    losses = [trainer.train_step([(x.payload, y)]) for _ in range(LONG)]
    return {"the losses": np.stack([host(loss) for loss in losses])}


# --- laws ---------------------------------------------------------------------------------------------------------------------------------
class Law(NamedTuple):
    """What is given to a configuration, in its place, and what it makes of it, there and on NumPy."""

    text: str
    given: Callable[[Setting], Numbers]
    found: Callable[[Setting, Numbers], Numbers]


LAWS = {
    "layers_agree": Law("Initial values, results and buffers of a layer are NumPy's, from one seed.", _initial, _forward),
    "gradients_agree": Law(
        "The gradients of a layer's inputs and parameters are NumPy's; NumPy's own are those of differences.", _directed, _backward
    ),
    "optimizers_agree": Law(f"Parameters, state and losses after {len(AIMS)} steps of an optimizer are NumPy's.", _starts, _optimized),
    "training_agrees": Law(f"The losses of {LONG} steps of training are NumPy's, from one seed.", _initial, _trained),
}
"""By kind of subject, see `_laws`."""
NUMPY = Place(backend_of_namespace(np))


def hold(law: Law, s: Setting) -> None:
    """Raise `LawBroken` where a configuration does not keep a law."""
    with np.errstate(all="ignore"):
        _hold(law, s)


def _hold(law: Law, s: Setting) -> None:
    given, unit = law.given(s), EPS[s.precision]
    wide = {name: _double(x) for name, x in given.items()}  # now: buffers and parameters change
    found, there = law.found(s, given), replace(s, place=NUMPY, precision="double")
    expected, rng = law.found(there, wide), np.random.default_rng(0)
    moved = [law.found(there, _nudged(rng, wide, unit)) for _ in range(NUDGES)]
    if found.keys() != expected.keys():
        raise LawBroken(f"there are {', '.join(found)}; expected {', '.join(expected)}")
    for name, y in expected.items():
        y = host(y)
        spread = max(float(np.max(np.abs(host(m[name]) - y), initial=0.0)) for m in moved)
        grant = spread + unit * float(np.max(np.abs(y), initial=0.0)) + GRAINS.get(s.precision, 0.0)
        near(name, [found[name]], [y], [ROUNDINGS * grant])
    if law.found is _backward and s == there:
        _differentiated(s, wide, found)


def _differentiated(s: Setting, given: Numbers, grads: Numbers) -> None:
    """Compare gradients, each along a random direction, with differences of the results."""
    rng, cotangents = np.random.default_rng(0), [x for name, x in given.items() if name.startswith("ct")]
    for name, grad in grads.items():
        moving = name.removeprefix("the gradient of ")
        direction = rng.uniform(-1.0, 1.0, grad.shape)

        def results(x: Any, moving: str = moving) -> list[Any]:
            return [y.payload for y in _results(s, *_made(s, given | {moving: x})) if y.requires_grad]

        expected, error = _slope(results, given[moving], direction, cotangents)
        near(f"{name}, along a direction", [inner([grad], [direction])], [expected], [error + ROUNDINGS * EPS["double"] * abs(expected)])


def _slope(results: Callable[[Any], list[Any]], x: Any, direction: Any, cotangents: list[Any]) -> tuple[Any, Any]:
    """Give the derivative of the sum of products of results and cotangents, and the error to be granted.

    Where the estimate is poor, the steps are too long: a kink lies between, of one of many ReLUs, or a norm of nearly nothing was divided by.
    """
    found = []
    for scale in SCALES:
        values, errors = extrapolated(results, [x], [scale * direction], EPS["double"])
        found.append((inner(cotangents, values) / scale, inner([np.abs(ct) for ct in cotangents], errors) / scale))
        if found[-1][1] <= GOOD * abs(found[-1][0]):
            break
    return min(found, key=lambda pair: float(pair[1]))


def _double(x: Any) -> Any:
    x = host(x)
    return x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype))


def _nudged(rng: np.random.Generator, given: Numbers, unit: float) -> Numbers:
    return {name: nudged(rng, x, unit) if x.dtype.kind in "fc" else x for name, x in given.items()}


# --- rows ---------------------------------------------------------------------------------------------------------------------------------
def names(level: str = "quick") -> list[str]:
    """Give what is checked: "nn.Linear", "optim.Adam"; at the level "full" "training.mlp", too."""
    return [*subjects(), *(TRAININGS if level == "full" else ())]


def check(name: str, place: Place, level: str = "quick", seed: int = 0) -> Iterator[Row]:
    """Hold one layer, loss, optimizer or training to its laws, and give a row for each law and dtype.

    Parameters
    ----------
    name : str
        One of `names`.
    place : Place
        The library and the device.
    level : str
        At "least" one configuration, in double precision; at "quick" all, and one in single precision; at "full" all in both, and one in bfloat16
        and (but for optimizers) half precision where the library has them; less of what compares numbers.
    seed : int
        Of initial values, inputs and cotangents.

    Yields
    ------
    Row
        Its ``cases`` are the configurations. A class without any is an error: its configurations belong in `agnostic_ad.nn.samples`.
    """
    kind, device = name.partition(".")[0], str(place.device if place.device is not None else "")
    chosen = [TRAININGS[name][0]] if name in TRAININGS else samples(name)
    if not chosen:
        yield Row(name, "", "", device, "error", reason=f"{name} has no sample: add one to agnostic_ad/nn/samples.py")
    for precision in _precisions(name, place, level):
        all_of = {"least": (), "quick": ("double",)}.get(level, ("double", "single") if _smooth(name) else ("double",))
        few = chosen if precision in all_of else chosen[:1]
        for law in _OF[kind] if few else ():
            start = time.perf_counter()
            for number, each in enumerate(few, start=1):
                setting = Setting(each, place, precision, seed)
                status, reason = _verdict(LAWS[law], setting)
                if status != "passed" or number == len(few):
                    example = "" if status == "passed" else _code(law, setting)
                    yield Row(name, law, DTYPES[precision]["f"], device, status, number, reason, example, time.perf_counter() - start)
                    break


_OF = {"nn": ("layers_agree", "gradients_agree"), "optim": ("optimizers_agree",), "training": ("training_agrees",)}


def check_networks(place: Place, level: str = "quick", seed: int = 0) -> Iterator[Row]:
    """Check all layers, losses and optimizers; at the level "full" trainings, too."""
    for name in names(level):
        yield from check(name, place, level, seed)


def _precisions(name: str, place: Place, level: str) -> list[str]:
    """Give the precisions to check. Sixteen bits train with scaled losses alone; squares, which optimizers remember, leave half precision's range."""
    found = ["double", "single"] if level != "least" else ["double"]
    narrow = level == "full" and name not in TRAININGS and _smooth(name)
    return found + [p for p in ("half", "brain")[name.startswith("optim.") :] if narrow and has(place, DTYPES[p]["f"])]


def _smooth(name: str) -> bool:
    """Tell whether a rounding changes results by little. Optimizers without a formula compare numbers, as a line search does, and decide."""
    return getattr(subjects().get(name), "formula", True) is not None


def _verdict(law: Law, s: Setting) -> tuple[str, str]:
    try:
        hold(law, s)
    except LawBroken as error:
        return "failed", str(error)
    except MissingFunctionError as error:
        return "missing", str(error)
    except Exception:
        return "error", traceback.format_exc(limit=-3)
    return "passed", ""


def _code(law: str, s: Setting) -> str:
    """Give what a law computes as code to paste; cotangents are ones there."""

    def drawn(kind: str = "f", name: str = "x") -> list[str]:
        return [f"{name}{line[1:]}" for line in s.call(kind).code(s.place.backend.name).splitlines()[2:-1]]

    head = [
        "import agnostic_ad as ad",
        f"import {s.place.backend.name} as xp",
        "from agnostic_ad import nn",
        "from agnostic_ad.nn.trainer import models",
    ]
    operands = [f"x{i}" for i in range(len(s.sample.operands))]
    where = f'xp=xp, dtype="{DTYPES[s.precision]["f"]}"' + (f', device="{s.place.device}"' if s.place.device is not None else "")
    made = [*drawn(), f"ad.manual_seed({s.seed})", f"with ad.defaults({where}):", f"    layer = {s.sample.code}"]
    if law == "optimizers_agree":
        lines = [line for name, kind in _kinds(s).items() for line in drawn(kind, name)]
        starts = [line.partition(" ")[0] for line in lines]
        lines += [
            f"params = [nn.Parameter(x) for x in ({', '.join(starts)},)]",
            f"aims = [({', '.join(f'{x} * aim' for x in starts)},) for aim in {AIMS}]",
        ]
        lines += [f"optimizer = {s.sample.code}", _CLOSURE, "for aim in aims:", "    print(optimizer.step(closure))", "print(params)"]
    elif law == "training_agrees":
        lines = [
            *made,
            "params = list(layer.parameters())",
            f"optimizer = {dict(TRAININGS.values())[s.sample]}",
            "trainer = nn.Trainer(layer, nn.CrossEntropyLoss(), optimizer)",
            f"print([float(trainer.train_step([({', '.join(operands)})])) for _ in range({LONG})])",
        ]
    else:
        moving = [x for x, o in zip(operands, s.sample.operands, strict=True) if not o.kind]
        lines = [*made, *(f"{x} = ad.Variable({x})" for x in moving), f"y = layer({', '.join(operands)})", "print(y)"]
        if law == "gradients_agree":
            lines += ["y.sum().backward()", f"print({', '.join(f'{x}.grad' for x in moving)}, *(p.grad for p in layer.parameters()))"]
    return "\n".join(head + lines)


_CLOSURE = """
def closure():
    optimizer.zero_grad()
    loss = 0.0
    for p, a in zip(params, aim):
        xp = ad.namespace(p)
        off = xp.abs(p - a)
        loss = xp.sum(off * off + 0.1 * off * off * off) + loss
    loss.backward()
    return loss
"""
"""How far parameters are from their aim, and the gradients."""
