"""Solvers: they train a net, test it, and write snapshots."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from agnostic_ad.nn.caffe import snapshots
from agnostic_ad.nn.caffe.blob import Blob, keywords
from agnostic_ad.nn.caffe.feeding import check_inputs
from agnostic_ad.nn.caffe.files import host
from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest
from agnostic_ad.nn.caffe.net import Net
from agnostic_ad.nn.caffe.parse import read_definition
from agnostic_ad.nn.caffe.updates import RULES, check_policy, learning_rate
from agnostic_ad.random import Generator

__all__ = ["Solver"]

_TRAIN = ("train_net_param", "train_net", "net_param", "net")


class Solver:
    """What trains a net, as a definition says.

    Parameters
    ----------
    definition : path, str or Message
        A solver's prototxt file, its text, or a SolverParameter. The files of nets that it names are looked for from the current folder,
        then beside the solver's file.
    inputs : dict, optional
        What to read in place of data layers, as for `Net`; or such a dict for each phase: ``{"TRAIN": {...}, "TEST": {...}}``.
    xp, dtype, device
        The array library, the dtype and the device; by default as `agnostic_ad.defaults` says. ``solver_mode`` and ``device_id`` say nothing here.
    generator : Generator, optional
        What initial weights, dropout and random crops come from; by default one that starts from ``random_seed`` where that is given, else
        the default generator.
    log : callable, optional
        Takes each line that is reported.
    **fields
        Fields of a SolverParameter, in place of the definition's: ``net="lenet.prototxt"``, ``max_iter=100``.

    Attributes
    ----------
    net : Net
        The net that is trained.
    test_nets : list of Net
        The nets that it is tested with, which hold the same parameters.
    iter : int
        The number of updates done.
    history : list of list of Blob
        What the rule keeps: momentum, squares of gradients.
    smoothed_loss : float
        The mean of the last ``average_loss`` losses.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import caffe
    >>> net = '''
    ... layer { name: "data" type: "MemoryData" top: "x" top: "t" memory_data_param { batch_size: 4 } }
    ... layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
    ... layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" }
    ... '''
    >>> x = np.asarray([[0.0], [1.0], [2.0], [3.0]])
    >>> solver = caffe.Solver(
    ...     "base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9", net_param=caffe.parse(net), inputs={"x": x, "t": 2 * x + 1}
    ... )
    >>> solver.step(200)
    >>> [float(blob.data.ravel()[0].round(2)) for blob in solver.net.params["ip"]]
    [2.0, 1.0]
    """

    def __init__(
        self,
        definition: Any,
        *,
        inputs: Mapping[str, Any] | None = None,
        xp: Any = None,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
        log: Callable[[str], Any] = print,
        **fields: Any,
    ) -> None:
        self.param = read_definition(definition, "SolverParameter")
        if any(name in fields for name in _TRAIN):
            for name in _TRAIN:
                delattr(self.param, name)
        for name, value in fields.items():
            setattr(self.param, name, os.fspath(value) if isinstance(value, os.PathLike) else value)
        self.log = log
        self.iter = 0
        self.smoothed_loss = 0.0
        self._losses: list[float] = []
        self._check()
        if generator is None and self.param.random_seed >= 0:
            generator = Generator(self.param.random_seed)
        self._where = {"xp": xp, "dtype": dtype, "device": device, "generator": generator}
        self._inputs = {} if inputs is None else inputs
        check_inputs(self._inputs)
        self.net = self._train_net()
        self.test_nets = self._test_nets()
        for net in (self.net, *self.test_nets):
            for paths in self.param.weights:
                for path in paths.split(","):
                    net.copy_from(path.strip())
        params = self.net.learnable_params
        self.history = [[Blob(p.shape, **keywords(p.place), name=p.name) for p in params] for _ in range(self.rule.histories)]
        for net in (self.net, *self.test_nets):
            net.debug_info, net.log = self.param.debug_info, log
        self._share()

    # --- building ---------------------------------------------------------------------------------------------------
    def _check(self) -> None:
        param = self.param
        if param.type not in RULES:
            known = ", ".join(RULES)
            raise DefinitionError(f"{param.at()}there is no solver of type {param.type!r}{nearest(param.type, RULES)}; there are {known}")
        self.rule = RULES[param.type]
        check_policy(param)
        if param.momentum and not self.rule.momentum:
            raise DefinitionError(f"{param.at()}momentum cannot be used with {param.type}: leave it out")
        for name in {"RMSProp": ["rms_decay"], "Adam": ["momentum", "momentum2"]}.get(param.type, []):
            if not 0 <= (getattr(param, name) or 0.0) < 1:
                raise DefinitionError(f"{param.at()}{name} of {param.type} lies in [0, 1), and {getattr(param, name)} is given")
        if param.regularization_type not in ("L1", "L2"):
            raise DefinitionError(f"{param.at()}regularization_type is 'L1' or 'L2', not {param.regularization_type!r}")
        for name in ("iter_size", "average_loss", "test_iter"):
            values = getattr(param, name)
            for value in values if name == "test_iter" else [values]:
                if value < 1:
                    raise DefinitionError(f"{param.at()}{name} is 1 or more, not {value}")
        for name in ("display", "max_iter", "snapshot", "test_interval"):
            if (getattr(param, name) or 0) < 0:
                raise DefinitionError(f"{param.at()}{name} is 0 or more, not {getattr(param, name)}")
        if param.snapshot and not snapshots.prefix(param):
            raise DefinitionError(f"{param.at()}snapshot is given, and no snapshot_prefix")
        if param.snapshot:
            snapshots.check_writable(param)

    def _read_net(self, path: str) -> Message:
        beside = Path(self.param.file()).parent / Path(path).name
        found = beside if not Path(path).is_file() and self.param.file() and beside.is_file() else path
        try:
            return read_definition(os.fspath(found), "NetParameter")
        except FileNotFoundError as error:
            error.args = (
                f"{self.param.at()}the solver's net: {error}, and none of its name beside the solver's file; net= of caffe.Solver says another",
            )
            raise

    def _make(self, net: Message, phase: str, state: Message | None) -> Net:
        """Build a net: the phase of the solver's own state counts before the net's, and that before the default."""
        said = net.state if net.has("state") else Message("NetState")
        given = state or Message("NetState")
        phase = given.phase if given.has("phase") else said.phase if said.has("phase") else phase
        level = given.level if given.has("level") else said.level
        inputs = self._inputs[phase] if phase in self._inputs else {} if {"TRAIN", "TEST"} & set(self._inputs) else self._inputs
        return Net(net, phase, level, given.stage, inputs=inputs, **self._where)

    def _train_net(self) -> Net:
        given = [name for name in _TRAIN if self.param.has(name)]
        if len(given) != 1:
            raise DefinitionError(
                f"{self.param.at()}the net to train is said by one of {', '.join(_TRAIN)}; here by {', '.join(given) or 'none'}"
            )
        found = getattr(self.param, given[0])
        net = self._read_net(found) if isinstance(found, str) else found
        return self._make(net, "TRAIN", self.param.train_state if self.param.has("train_state") else None)

    def _test_nets(self) -> list[Net]:
        param = self.param
        nets = [*param.test_net_param, *map(self._read_net, param.test_net)]
        rest = len(param.test_iter) - len(nets)
        general = param.net_param if param.has("net_param") else self._read_net(param.net) if param.has("net") else None
        if rest < 0 or (rest and general is None):
            raise DefinitionError(
                f"{param.at()}test_iter is said once for each test net: {len(nets)} are named, and {len(param.test_iter)} given"
            )
        nets += [general] * rest if general is not None else []
        states = list(param.test_state)
        if states and len(states) != len(nets):
            raise DefinitionError(f"{param.at()}test_state is said for each of {len(nets)} test nets or for none, not {len(states)} times")
        if nets and param.test_interval <= 0:
            raise DefinitionError(f"{param.at()}test_iter is given, and no test_interval")
        return [self._make(net, "TEST", states[i] if states else None) for i, net in enumerate(nets)]

    def _share(self) -> None:
        for net in self.test_nets:
            net.share_trained_layers(self.net)

    # --- training ---------------------------------------------------------------------------------------------------
    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return learning_rate(self.param, self.iter)

    def step(self, n: int = 1) -> None:
        """Do ``n`` updates, and the tests, reports and snapshots that fall among them."""
        param, stop = self.param, self.iter + n
        self._losses = []
        while self.iter < stop:
            if param.test_interval and self.iter % param.test_interval == 0 and (self.iter or param.test_initialization):
                self.test_all()
            self.net.clear_param_diffs()
            display = bool(param.display) and self.iter % param.display == 0
            self.net.debug_info = display and param.debug_info
            loss = sum(self.net.forward_backward() for _ in range(param.iter_size)) / param.iter_size
            self._smooth(loss)
            if display:
                self._report()
            self.apply_update()
            if param.snapshot and self.iter % param.snapshot == 0:
                self.snapshot()

    def _smooth(self, loss: float) -> None:
        self._losses = [*self._losses, loss][-self.param.average_loss :]
        self.smoothed_loss = math.fsum(self._losses) / len(self._losses)

    def _report(self) -> None:
        self.log(f"Iteration {self.iter}, loss = {self.smoothed_loss:.6g}, lr = {self.lr:.6g}")
        self._say("Train", self._scores(self.net), self.net)

    def _scores(self, net: Net) -> dict[str, list[float]]:
        """Give the numbers of the net's outputs."""
        return {name: [float(v) for v in host(net.blobs[name].data).ravel()] for name in net.outputs}

    def _say(self, what: str, scores: Mapping[str, Iterable[float]], net: Net) -> None:
        weights = {b.name: w for layer, top in zip(net.layers, net.tops) for w, b in zip(layer.loss_weight, top) if w}
        lines = [(name, value) for name, values in scores.items() for value in values]
        for i, (name, value) in enumerate(lines):
            counted = f" (* {weights[name]:g} = {weights[name] * value:.6g} loss)" if name in weights else ""
            self.log(f"    {what} net output #{i}: {name} = {value:.6g}{counted}")

    def apply_update(self) -> None:
        """Clip, regularise and subtract what the rule makes of the gradients; the parameters' ``diff`` holds that afterwards."""
        param, net = self.param, self.net
        rate = self.lr
        self._clip()
        decay = param.weight_decay or 0.0
        for i, p in enumerate(net.learnable_params):
            xp, g, w = p.xp, p.diff, p.data
            if param.iter_size > 1:
                g = g * (1 / param.iter_size)
            if decay * p.decay_mult:
                g = g + (decay * p.decay_mult) * (w if param.regularization_type == "L2" else xp.sign(w))
            kept = [h[i] for h in self.history]
            update, new = self.rule.update(xp, param, self.iter + 1, rate * p.lr_mult, g, [h.data for h in kept])
            for h, value in zip(kept, new):
                h.data = value
            p.diff = update
            p.data = w - p.diff
        self.iter += 1

    def _clip(self) -> None:
        """Scale all gradients down, so that their norm is at most ``clip_gradients``."""
        most = self.param.clip_gradients
        if most < 0:
            return
        params = self.net.learnable_params
        norm = math.sqrt(math.fsum(float(p.xp.sum(p.diff * p.diff)) for p in params))
        if norm > most:
            for p in params:
                p.diff = p.diff * (most / norm)

    def solve(self, resume: Any = None) -> None:
        """Train until ``max_iter``, from a snapshot where one is given; then write a snapshot, report and test as the definition says.

        Parameters
        ----------
        resume : path, optional
            A ``.solverstate`` file.
        """
        param = self.param
        if resume is not None:
            self.restore(resume)
        if not param.has("max_iter"):
            raise DefinitionError(f"{param.at()}solve() needs max_iter; or call step(n)")
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and snapshots.prefix(param) and not (param.snapshot and self.iter % param.snapshot == 0):
            self.snapshot()
        if param.display and self.iter % param.display == 0:
            self.net.forward()
            self._smooth(float(self.net.loss))
            self.log(f"Iteration {self.iter}, loss = {self.smoothed_loss:.6g}")
        if param.test_interval and self.iter % param.test_interval == 0:
            self.test_all()

    # --- testing ----------------------------------------------------------------------------------------------------
    def test_all(self) -> list[dict[str, list[float]]]:
        """Test with every test net."""
        return [self.test(i) for i in range(len(self.test_nets))]

    def test(self, index: int = 0) -> dict[str, list[float]]:
        """Run a test net ``test_iter`` times; give, and report, the means of its outputs.

        Parameters
        ----------
        index : int
            Which test net.

        Returns
        -------
        dict of str to list of float
            The numbers of each output.
        """
        net, count = self.test_nets[index], self.param.test_iter[index]
        self.log(f"Iteration {self.iter}, testing net (#{index})")
        total: dict[str, list[float]] = {}
        loss = 0.0
        for _ in range(count):
            net.forward()
            if self.param.test_compute_loss:
                loss += float(net.loss)
            for name, values in self._scores(net).items():
                total[name] = [a + b for a, b in zip(total[name], values)] if name in total else values
        means = {name: [v / count for v in values] for name, values in total.items()}
        if self.param.test_compute_loss:
            self.log(f"Test loss: {loss / count:.6g}")
        self._say("Test", means, net)
        return means

    # --- snapshots --------------------------------------------------------------------------------------------------
    def snapshot(self) -> Path:
        """Write the parameters and the solver's state to ``<snapshot_prefix>_iter_<n>.caffemodel`` and ``.solverstate``.

        Returns
        -------
        Path
            The file of the state, for `restore`.
        """
        return snapshots.write(self)

    def restore(self, path: Any) -> None:
        """Go on from a snapshot: its parameters, the rule's history and the number of updates.

        Parameters
        ----------
        path : path
            A ``.solverstate`` or ``.solverstate.h5`` file. The file of parameters that it names is looked for from the current folder, then
            beside it.
        """
        snapshots.read(self, path)

    def __repr__(self) -> str:
        return f"Solver({self.param.type}, iter={self.iter}, net={self.net.name!r})"
