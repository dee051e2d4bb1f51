"""Solvers of nn.caffe: rules beside torch's, policies beside their formulas, snapshots, tests, reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import caffe

SHARED = support.ROOT.parent / "shared" / "caffe"
needs_files = pytest.mark.skipif(not SHARED.is_dir(), reason="the definitions of BVLC/caffe are not beside the repository")

NET = """
name: "line"
layer { name: "data" type: "MemoryData" top: "x" top: "t" memory_data_param { batch_size: BATCH } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" MORE
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } bias_filler { value: 0.5 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
_rng = np.random.default_rng(0)
X, T = _rng.normal(size=(8, 3)), _rng.normal(size=(8, 2))


def definition(batch: int = 8, more: str = "") -> caffe.Message:
    return caffe.parse(NET.replace("BATCH", str(batch)).replace("MORE", more))


def solver(how: str, batch: int = 8, more: str = "", **options: Any) -> caffe.Solver:
    if "lr_policy" not in how:
        how += " lr_policy: 'fixed'"
    options = {"dtype": "float64", "random_seed": 1, "inputs": {"x": X, "t": T}, "log": lambda line: None, **options}
    return caffe.Solver(how, net_param=definition(batch, more), **options)


def values(of: caffe.Solver) -> list[Any]:
    return [np.asarray(p.data).copy() for p in of.net.learnable_params]


def gradients(w: Any, b: Any) -> tuple[Any, Any]:
    """Of the loss, the sum of squares over twice the batch."""
    error = (X @ w.T + b - T) / 8
    return error.T @ X, error.sum(axis=0)


# --- rules ----------------------------------------------------------------------------------------------------------------------------------
RULES = {
    "SGD": ("momentum: 0.9", "SGD", {"momentum": 0.9}),
    "Nesterov": ("momentum: 0.9", "SGD", {"momentum": 0.9, "nesterov": True}),
    "AdaGrad": ("delta: 1e-4", "Adagrad", {"eps": 1e-4}),
    "RMSProp": ("rms_decay: 0.8 delta: 1e-4", "RMSprop", {"alpha": 0.8, "eps": 1e-4}),
    "AdaDelta": ("momentum: 0.95 delta: 1e-6", "Adadelta", {"rho": 0.95, "eps": 1e-6}),
    "Adam": ("momentum: 0.9 momentum2: 0.99 delta: 1e-30", "Adam", {"betas": (0.9, 0.99), "eps": 1e-30}),  # the two place eps differently
}


@pytest.mark.parametrize("name", RULES)
def test_rules_beside_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    how, theirs, options = RULES[name]
    made = solver(f"type: '{name}' base_lr: 0.05 weight_decay: 0.1 {how}")
    w, b = (torch.tensor(v, requires_grad=True) for v in values(made))
    optimizer = getattr(torch.optim, theirs)([w, b], lr=0.05, weight_decay=0.1, **options)
    x, t = torch.tensor(X), torch.tensor(T)
    for _ in range(5):
        optimizer.zero_grad()
        (((x @ w.T + b - t) ** 2).sum() / 16).backward()
        optimizer.step()
        made.step()
        for got, want in zip(values(made), (w, b), strict=True):
            assert_close(got, want.detach())


def test_adam_adds_delta_before_the_correction() -> None:
    """The first step of each element: lr sqrt(1 - b2) / (1 - b1) m / (sqrt(v) + delta)."""
    made = solver("type: 'Adam' base_lr: 0.1 momentum: 0.9 momentum2: 0.99 delta: 0.3")
    w, b = values(made)
    g = gradients(w, b)[0]
    made.step()
    assert_close(values(made)[0], w - 0.1 * math.sqrt(0.01) / 0.1 * (0.1 * g) / (math.sqrt(0.01) * np.abs(g) + 0.3))


def test_each_rule_on_each_library(backend: support.Backend) -> None:
    for name, (how, _, _) in RULES.items():
        one, other = (solver(f"type: '{name}' base_lr: 0.05 {how}", xp=xp) for xp in (np, backend.xp))
        for made in (one, other):
            made.step(2)
        for got, want in zip(other.net.learnable_params, values(one), strict=True):
            assert_close(backend.numpy(got.data), want)


def test_momentum_remembers_old_rates() -> None:
    """Caffe's history holds what was subtracted, rate included: a change of the rate does not reach back."""
    made = solver("base_lr: 0.1 momentum: 0.5 lr_policy: 'step' stepsize: 1 gamma: 0.1")
    w, b = values(made)
    first = 0.1 * gradients(w, b)[0]
    bias = 0.1 * gradients(w, b)[1]
    second = 0.5 * first + 0.01 * gradients(w - first, b - bias)[0]
    made.step(2)
    assert_close(values(made)[0], w - first - second)


def test_multipliers() -> None:
    more = "param { lr_mult: 2 decay_mult: 0 } param { lr_mult: 0 }"
    made = solver("base_lr: 0.1 weight_decay: 0.5", more=more)
    w, b = values(made)
    made.step()
    assert_close(values(made)[0], w - 0.2 * gradients(w, b)[0])
    assert_exact(values(made)[1], b)


def test_weight_decay() -> None:
    for kind, term in (("L1", np.sign), ("L2", lambda w: w)):
        made = solver(f"base_lr: 0.1 weight_decay: 0.5 regularization_type: '{kind}'", more="param { decay_mult: 3 }")
        w, b = values(made)
        gw, gb = gradients(w, b)
        made.step()
        assert_close(values(made)[0], w - 0.1 * (gw + 1.5 * term(w)))
        assert_close(values(made)[1], b - 0.1 * (gb + 0.5 * term(b)))


def test_several_batches_a_step() -> None:
    once, often = solver("base_lr: 0.1", batch=8), solver("base_lr: 0.1 iter_size: 4", batch=2)
    for made in (once, often):
        made.step(3)
    for got, want in zip(values(often), values(once), strict=True):
        assert_close(got, want)
    assert often.smoothed_loss == pytest.approx(once.smoothed_loss)


def test_clipping() -> None:
    made = solver("base_lr: 1.0 clip_gradients: 0.01")
    w, b = values(made)
    norm = math.sqrt(sum((g**2).sum() for g in gradients(w, b)))
    made.step()
    assert_close(values(made)[0], w - gradients(w, b)[0] * 0.01 / norm)
    loose, plain = solver("base_lr: 0.1 clip_gradients: 1e6"), solver("base_lr: 0.1")
    for other in (loose, plain):
        other.step()
    assert_exact(values(loose)[0], values(plain)[0])


def test_the_update_is_left_in_diff() -> None:
    made = solver("base_lr: 0.1")
    w, b = values(made)
    made.step()
    assert_close(made.net.learnable_params[0].diff, 0.1 * gradients(w, b)[0])


# --- policies -------------------------------------------------------------------------------------------------------------------------------
POLICIES = [
    ("lr_policy: 'fixed'", lambda i: 0.5),
    ("lr_policy: 'step' gamma: 0.1 stepsize: 3", lambda i: 0.5 * 0.1 ** (i // 3)),
    ("lr_policy: 'exp' gamma: 0.9", lambda i: 0.5 * 0.9**i),
    ("lr_policy: 'inv' gamma: 0.1 power: 0.75", lambda i: 0.5 * (1 + 0.1 * i) ** -0.75),
    ("lr_policy: 'multistep' gamma: 0.1 stepvalue: 2 stepvalue: 5", lambda i: 0.5 * (1 if i < 2 else 0.1 if i < 5 else 0.01)),
    ("lr_policy: 'poly' power: 2 max_iter: 10", lambda i: 0.5 * (1 - i / 10) ** 2),
    ("lr_policy: 'sigmoid' gamma: 0.5 stepsize: 4", lambda i: 0.5 / (1 + math.exp(-0.5 * (i - 4)))),
]


@pytest.mark.parametrize(("how", "want"), POLICIES, ids=lambda p: p if isinstance(p, str) else "")
def test_policies(how: str, want: Any) -> None:
    param = caffe.parse(f"base_lr: 0.5 {how}", "SolverParameter")
    assert [caffe.learning_rate(param, i) for i in range(8)] == pytest.approx([want(i) for i in range(8)], rel=1e-14)


def test_steps_come_in_their_order_and_one_at_a_time() -> None:
    how = caffe.parse("base_lr: 1 lr_policy: 'multistep' gamma: 0.5 stepvalue: [3, 3, 1]", "SolverParameter")
    assert [caffe.learning_rate(how, i) for i in range(2, 7)] == [1.0, 0.5, 0.25, 0.125, 0.125]


def test_policies_far_from_their_middle() -> None:
    how = caffe.parse("base_lr: 1 lr_policy: 'sigmoid' gamma: 0.1 stepsize: 10000", "SolverParameter")
    assert [caffe.learning_rate(how, i) for i in (0, 10000, 100000)] == [0.0, 0.5, 1.0]
    how = caffe.parse("base_lr: 1 lr_policy: 'poly' power: 0.5 max_iter: 10", "SolverParameter")
    assert caffe.learning_rate(how, 10) == 0.0
    with pytest.raises(
        caffe.DefinitionError, match="<text>:1: lr_policy 'poly' ends at max_iter, 10: there is no learning rate for iteration 11"
    ):
        caffe.learning_rate(how, 11)


def test_the_policy_drives_the_solver() -> None:
    made = solver("base_lr: 0.5 lr_policy: 'exp' gamma: 0.5")
    assert made.lr == 0.5
    w, b = values(made)
    made.step(2)
    assert made.lr == 0.125
    once, twice = gradients(w, b), gradients(w - 0.5 * gradients(w, b)[0], b - 0.5 * gradients(w, b)[1])
    assert_close(values(made)[0], w - 0.5 * once[0] - 0.25 * twice[0])


# --- tests, reports ---------------------------------------------------------------------------------------------------------------------------
TESTED = "base_lr: 0.1 test_iter: 2 test_interval: 2"


def test_test_nets_hold_the_same_parameters() -> None:
    said: list[str] = []
    made = solver(TESTED + " test_compute_loss: true", batch=4, log=said.append)
    made.step(3)
    (net,) = made.test_nets
    assert net.phase == "TEST"
    assert_exact(net.params["ip"][0].data, made.net.params["ip"][0].data)
    w, b = values(made)
    want = ((X @ w.T + b - T) ** 2).sum() / 8 / 2
    assert made.test()["loss"] == [pytest.approx(want)]
    assert said.count("Iteration 0, testing net (#0)") == 1
    assert said.count("Iteration 2, testing net (#0)") == 1
    assert said[-2].startswith("Test loss: ")
    assert said[-1] == f"    Test net output #0: loss = {want:.6g} (* 1 = {want:.6g} loss)"


def test_no_test_before_the_first_step() -> None:
    said: list[str] = []
    solver(TESTED + " test_initialization: false", log=said.append).step(2)
    assert said == []


def test_phases_may_have_inputs_of_their_own() -> None:
    made = solver(TESTED, batch=4, inputs={"TRAIN": {"x": X, "t": T}, "TEST": {"x": X[:4], "t": 0 * T[:4]}})
    w, b = values(made)
    assert made.test()["loss"] == [pytest.approx(((X[:4] @ w.T + b) ** 2).sum() / 8)]


def test_reports() -> None:
    said: list[str] = []
    made = solver("base_lr: 0.1 display: 2 average_loss: 2", log=said.append)
    losses = []
    for _ in range(3):
        made.step()
        losses.append(made.smoothed_loss)
    assert said[0] == f"Iteration 0, loss = {losses[0]:.6g}, lr = 0.1"
    assert said[1] == f"    Train net output #0: loss = {losses[0]:.6g} (* 1 = {losses[0]:.6g} loss)"
    assert [line for line in said if "Iteration" in line][1].startswith("Iteration 2, ")
    other = solver("base_lr: 0.1 average_loss: 2")
    other.step(3)
    assert other.smoothed_loss == pytest.approx((losses[1] + losses[2]) / 2)


def test_debug_info() -> None:
    said: list[str] = []
    made = solver("base_lr: 0.1 display: 2 debug_info: true", log=said.append)
    w, b = values(made)
    made.step(2)
    g = gradients(w, b)
    assert said[0] == f"    [Forward] Layer data, top blob x data: {np.abs(X).mean():.6g}"
    assert f"    [Forward] Layer ip, param blob 0 data: {np.abs(w).mean():.6g}" in said
    assert f"    [Backward] Layer ip, param blob 1 diff: {np.abs(g[1]).mean():.6g}" in said
    norms = [sum(np.abs(a).sum() for a in kept) for kept in ((w, b), g)] + [
        math.sqrt(sum((a**2).sum() for a in kept)) for kept in ((w, b), g)
    ]
    one, two = ", ".join(f"{n:.6g}" for n in norms[:2]), ", ".join(f"{n:.6g}" for n in norms[2:])
    assert f"    [Backward] All net params (data, diff): L1 norm = ({one}); L2 norm = ({two})" in said
    assert len([line for line in said if "All net params" in line]) == 1  # of iteration 0, not of 1


def test_solve(tmp_path: Path) -> None:
    said: list[str] = []
    prefix = tmp_path / "line"
    made = solver(TESTED + f" display: 4 max_iter: 4 snapshot: 3 snapshot_prefix: '{prefix}'", batch=4, log=said.append)
    made.solve()
    assert made.iter == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "line_iter_3.caffemodel",
        "line_iter_3.solverstate",
        "line_iter_4.caffemodel",
        "line_iter_4.solverstate",
    ]
    assert "Iteration 4, testing net (#0)" in said
    again = solver(TESTED + f" max_iter: 4 snapshot_after_train: false snapshot_prefix: '{tmp_path / 'other'}'", batch=4)
    again.solve(tmp_path / "line_iter_3.solverstate")
    assert again.iter == 4
    assert len(list(tmp_path.iterdir())) == 4


# --- snapshots ------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("name", RULES)
def test_going_on_from_a_snapshot(name: str, form: str, tmp_path: Path) -> None:
    if form == "HDF5":
        pytest.importorskip("h5py")
    how = f"type: '{name}' base_lr: 0.05 {RULES[name][0]} snapshot_format: {form} snapshot_prefix: '{tmp_path / 's'}'"
    how += " lr_policy: 'multistep' gamma: 0.5 stepvalue: 2 stepvalue: 4"
    through, stopped = solver(how), solver(how)
    through.step(6)
    stopped.step(3)
    state = stopped.snapshot()
    assert state.name == "s_iter_3.solverstate" + (".h5" if form == "HDF5" else "")
    other = solver(how, random_seed=9)
    other.restore(state)
    assert other.iter == 3
    other.step(3)
    for got, want in zip(values(other), values(through), strict=True):
        assert_exact(got, want)


def test_snapshots_with_gradients_and_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path)
    made = solver("base_lr: 0.1 snapshot_prefix: 'old/s' snapshot_diff: true")
    made.step()
    made.snapshot()
    kept = caffe.load_caffemodel("old/s_iter_1.caffemodel")
    assert_exact(np.asarray(kept.layer[1].blobs[0].double_diff).reshape(2, 3), made.net.params["ip"][0].diff)
    (tmp_path / "old").rename(tmp_path / "new")
    other = solver("base_lr: 0.1", random_seed=9)
    other.restore("new/s_iter_1.solverstate")  # the parameters lie beside it, not where it says
    assert_exact(values(other)[0], values(made)[0])


def test_snapshots_of_other_solvers(tmp_path: Path) -> None:
    made = solver(f"base_lr: 0.1 snapshot_prefix: '{tmp_path / 's'}'")
    state = made.snapshot()
    with pytest.raises(caffe.DefinitionError, match=r"it holds 2 arrays of history, and this solver \(Adam\) of this net has 4"):
        solver("type: 'Adam' base_lr: 0.1").restore(state)


def test_weights_to_begin_with(tmp_path: Path) -> None:
    first = solver("base_lr: 0.1")
    first.net.save(tmp_path / "w.caffemodel")
    made = solver(f"base_lr: 0.1 weights: '{tmp_path / 'w.caffemodel'}'", random_seed=9)
    assert_exact(values(made)[0], values(first)[0])


# --- definitions in files -------------------------------------------------------------------------------------------------------------------
def test_the_net_is_found_beside_the_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.prototxt").write_text(definition().text())
    (tmp_path / "solver.prototxt").write_text('net: "somewhere/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2')
    made = caffe.Solver(tmp_path / "solver.prototxt", inputs={"x": X, "t": T})
    assert made.net.name == "line"
    made.solve()
    assert (tmp_path / "solver_iter_2.solverstate").exists()  # named after the solver's file where nothing is said
    (tmp_path / "net.prototxt").rename(tmp_path / "other.prototxt")
    with pytest.raises(FileNotFoundError, match=r"solver.prototxt:1: the solver's net: there is no file 'somewhere/net.prototxt'"):
        caffe.Solver(tmp_path / "solver.prototxt", inputs={"x": X, "t": T})
    assert caffe.Solver(tmp_path / "solver.prototxt", net=tmp_path / "other.prototxt", inputs={"x": X, "t": T}).net.name == "line"


def test_several_test_nets() -> None:
    net = definition()
    how = caffe.parse("base_lr: 0.1 lr_policy: 'fixed' test_iter: 1 test_iter: 1 test_interval: 5", "SolverParameter")
    how.train_net_param, how.test_net_param = net, [net, net]
    how.test_state = [{}, {"stage": ["a"]}]
    made = caffe.Solver(how, inputs={"x": X, "t": T}, log=lambda line: None)
    assert len(made.test_all()) == 2
    how.test_state = [{}]
    with pytest.raises(caffe.DefinitionError, match="test_state is said for each of 2 test nets or for none, not 1 times"):
        caffe.Solver(how, inputs={"x": X, "t": T})


def test_old_names_of_solvers() -> None:
    assert solver("solver_type: ADADELTA base_lr: 0.1").param.type == "AdaDelta"
    with pytest.raises(caffe.DefinitionError, match="type and solver_type"):
        solver("solver_type: ADAM type: 'Adam' base_lr: 0.1")


WRONG = [
    ("type: 'adam' base_lr: 1", "<text>:1: there is no solver of type 'adam' (did you mean 'Adam'?); there are SGD, Nesterov"),
    ("base_lr: 1 lr_policy: 'stepp'", "there is no lr_policy 'stepp' (did you mean 'step'?); there are fixed, step"),
    ("base_lr: 1 lr_policy: 'step' gamma: 1", "lr_policy 'step' needs stepsize, more than 0"),
    ("base_lr: 1 lr_policy: 'exp' gamma: -1", "lr_policy 'exp' needs gamma, 0 or more"),
    ("momentum: 0.9", "the solver needs base_lr"),
    ("type: 'AdaGrad' base_lr: 1 momentum: 0.9", "momentum cannot be used with AdaGrad: leave it out"),
    ("type: 'RMSProp' base_lr: 1 rms_decay: 1", "rms_decay of RMSProp lies in [0, 1), and 1.0 is given"),
    ("base_lr: 1 regularization_type: 'L3'", "regularization_type is 'L1' or 'L2', not 'L3'"),
    ("base_lr: 1 iter_size: 0", "iter_size is 1 or more, not 0"),
    ("base_lr: 1 snapshot: 5", "snapshot is given, and no snapshot_prefix"),
    (
        "base_lr: 1 snapshot: 5 snapshot_prefix: 'no/such/folder/s'",
        "snapshots cannot be written to 'no/such/folder/s': make the folder 'no/such/folder'",
    ),
    ("base_lr: 1 test_iter: 5", "test_iter is given, and no test_interval"),
]


@pytest.mark.parametrize(("how", "message"), WRONG)
def test_wrong_solvers(how: str, message: str) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        solver(how)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name", ["display: -1", "max_iter: -4", "snapshot: -1 snapshot_prefix: 'a'", "test_interval: -1", "test_iter: 0 test_interval: 1"]
)
def test_numbers_that_count_nothing(name: str) -> None:
    with pytest.raises(caffe.DefinitionError, match=rf"<text>:1: {name.partition(':')[0]} is [01] or more, not (-1|-4|0)"):
        caffe.Solver(f"base_lr: 1 lr_policy: 'fixed' {name}", net_param=caffe.parse(""))


def test_moments_that_do_not_fade() -> None:
    with pytest.raises(caffe.DefinitionError, match=r"<text>:1: momentum of Adam lies in \[0, 1\), and 1.0 is given"):
        caffe.Solver("base_lr: 1 lr_policy: 'fixed' type: 'Adam' momentum: 1", net_param=caffe.parse(""))


def test_inputs_that_are_no_dict() -> None:
    with pytest.raises(TypeError, match="inputs is a dict of shapes or arrays, by the names of the tops that they stand for, not a list"):
        caffe.Solver("base_lr: 1 lr_policy: 'fixed'", net_param=caffe.parse(""), inputs=[np.ones((2, 2))])  # type: ignore[arg-type]


def test_wrong_calls() -> None:
    with pytest.raises(
        caffe.DefinitionError, match="the net to train is said by one of train_net_param, train_net, net_param, net; here by none"
    ):
        caffe.Solver("base_lr: 1 lr_policy: 'fixed'")
    with pytest.raises(caffe.DefinitionError, match=r"solve\(\) needs max_iter; or call step\(n\)"):
        solver("base_lr: 1").solve()
    with pytest.raises(caffe.DefinitionError, match="a snapshot needs snapshot_prefix"):
        solver("base_lr: 1").snapshot()
    with pytest.raises(caffe.DefinitionError, match=r"SolverParameter has no field 'base_rate'"):
        solver("base_lr: 1", base_rate=3)


# --- Caffe's LeNet --------------------------------------------------------------------------------------------------------------------------
@needs_files
@pytest.mark.slow
def test_lenet_with_its_solver_learns() -> None:
    """100 of its 10,000 iterations, on scikit-learn's digits in the place of MNIST."""
    pytest.importorskip("sklearn")
    small = nn.data.datasets.Digits(train=True)
    images, labels = (np.asarray(t) for t in small.tensors)
    pixels = np.rint(255 * np.pad(images.repeat(3, 2).repeat(3, 3), ((0, 0), (0, 0), (2, 2), (2, 2)))).astype("uint8")
    parts = {"TRAIN": slice(0, 1000), "TEST": slice(1000, 1400)}
    said: list[str] = []
    made = caffe.Solver(
        SHARED / "examples_mnist_lenet_solver.prototxt",
        net=SHARED / "examples_mnist_lenet_train_test.prototxt",
        inputs={phase: {"data": pixels[rows], "label": labels[rows]} for phase, rows in parts.items()},
        test_iter=[4],
        snapshot=0,
        generator=ad.Generator(0),
        log=said.append,
    )
    before = made.test()["accuracy"][0]
    made.step(100)
    after = made.test()["accuracy"][0]
    assert before < 0.3
    assert after > 0.85
    assert made.lr == pytest.approx(0.01 * (1 + 0.0001 * 100) ** -0.75)
    assert "Iteration 0, testing net (#0)" in said


@needs_files
def test_cifar_quick_with_its_solver() -> None:
    """Two steps, with arrays for its database and without its mean image."""
    net = caffe.parse((SHARED / "examples_cifar10_cifar10_quick_train_test.prototxt").read_text())
    for layer in net.layer:
        del layer.transform_param
    made = caffe.Solver(
        SHARED / "examples_cifar10_cifar10_quick_solver.prototxt",
        net_param=net,
        inputs={"data": np.random.default_rng(0).normal(size=(100, 3, 32, 32)), "label": np.arange(100) % 10},
        test_iter=[1],
        snapshot=0,
        generator=ad.Generator(0),
        log=lambda line: None,
    )
    made.step(2)
    assert made.net.loss == pytest.approx(math.log(10), rel=1e-3)  # small initial weights: every class is as likely
    assert [p.lr_mult for p in made.net.params["conv2"]] == [1.0, 2.0]
    assert sorted(made.test()) == ["accuracy", "loss"]
