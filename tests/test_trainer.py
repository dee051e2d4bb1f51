"""The trainer: the same numbers as a loop written by hand, on every library; and what is around the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.trainer import Accuracy, Callback, ConfusionMatrix, EarlyStopping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = np.argmax(X[:, :3], axis=1)
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]


def model(seed: int = 0, **options: Any) -> nn.Module:
    ad.manual_seed(seed)
    with ad.defaults(**options):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def trainer(net: nn.Module | None = None, rate: float = 0.1, **options: Any) -> nn.Trainer:
    net = net or model()
    optimizer = nn.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    scheduler = options.pop("scheduler", None)
    return nn.Trainer(net, nn.CrossEntropyLoss(), optimizer, scheduler=scheduler and scheduler(optimizer), **options)


def weights(net: nn.Module) -> list[Any]:
    return [p.numpy() if hasattr(p, "numpy") else np.asarray(p.data) for p in (p.detach() for p in net.parameters())]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(weights(a), weights(b), strict=True))


# --- the loop -------------------------------------------------------------------------------------------------------------------------------
def by_hand(net: nn.Module, batches: list[Any], epochs: int, scheduler: Any = None, clip: float | None = None) -> list[float]:
    optimizer, loss_fn = nn.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()
    schedule = scheduler and scheduler(optimizer)
    losses = []
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_fn(net(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(float(loss))
    return losses


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loop_by_hand(backend: support.Backend, dtype: str) -> None:
    if backend.name == "dask" and dtype == "float32":
        pytest.skip("lazy parameters remember every step")
    epochs = 1 if backend.name == "dask" else 2
    batches = [(x.astype(dtype), y) for x, y in BATCHES]
    theirs, ours = model(dtype=dtype), model(xp=backend.xp, dtype=dtype)
    records: list[Any] = []

    class Keep(Callback):
        def on_log(self, trainer: Any, new: Any) -> None:
            records.extend(new)

    schedule = lambda o: nn.optim.lr_scheduler.ExponentialLR(o, 0.9)
    want = by_hand(theirs, batches, epochs, schedule, clip=0.5)
    run = trainer(
        ours, scheduler=schedule, scheduler_every="step", clip_norm=0.5, callbacks=[Keep()], metrics=[Accuracy(), ConfusionMatrix(3)]
    )
    history = run.fit(batches, epochs, validation=batches)  # batches of NumPy: they are moved to where the model is
    close = 1e-5 if dtype == "float32" else 1e-12
    assert_close([r["loss"] for r in records], want, rtol=close)
    assert [r["step"] for r in records] == list(range(1, 6 * epochs + 1)) and run.step == 6 * epochs and run.epoch == epochs
    assert_close([r["lr"] for r in records][:3], [0.1, 0.09, 0.081])
    for x, y in zip(weights(ours), weights(theirs), strict=True):
        assert_close(x, y, rtol=close, atol=close)
    assert history[-1]["val_accuracy"] == np.mean(theirs(X.astype(dtype)).data.argmax(1) == Y)
    assert run.results["val_confusion"].sum() == 24 and "val_confusion" not in history[-1]
    assert_close(history[0]["train_loss"], np.mean(want[:6]), rtol=close)


def test_another_device() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    net = model(xp=strict, device=device, dtype="float64")
    run = trainer(
        net, ema=0.9, clip_norm=0.5, clip_value=0.1, metrics=[Accuracy(), nn.trainer.TopK(2), nn.trainer.F1(3), nn.trainer.Perplexity()]
    )
    wide = [(x.astype("float64"), y) for x, y in BATCHES]
    host = trainer(model(dtype="float64"), ema=0.9, clip_norm=0.5, clip_value=0.1, metrics=run.metrics)
    results, want = run.fit(wide, 2, validation=wide)[-1], host.fit(wide, 2, validation=wide)[-1]
    assert {p.data.device for p in net.parameters()} == {device}
    assert [results[name] for name in results if name != "seconds"] == pytest.approx(
        [want[name] for name in want if name != "seconds"], rel=1e-12
    )


def test_bit_for_bit_on_numpy() -> None:
    theirs, ours = model(), model()
    by_hand(theirs, BATCHES, 3)
    trainer(ours).fit(BATCHES, epochs=3)
    assert same(theirs, ours)


def test_accumulated_batches_are_one_large_one() -> None:
    large = [(X[:12], Y[:12]), (X[12:], Y[12:])]
    ours, theirs = model(dtype="float64"), model(dtype="float64")
    run = trainer(ours, accumulate=3)
    run.fit([(x.astype("float64"), y) for x, y in BATCHES], 2)
    by_hand(theirs, [(x.astype("float64"), y) for x, y in large], 2)
    assert run.step == 4
    for x, y in zip(weights(ours), weights(theirs), strict=True):
        assert_close(x, y, rtol=1e-12)


def test_a_last_window_that_is_shorter() -> None:
    ours, theirs = model(dtype="float64"), model(dtype="float64")
    wide = [(x.astype("float64"), y) for x, y in BATCHES]
    run = trainer(ours, accumulate=4)
    run.fit(wide, 1)
    by_hand(theirs, [(X[:16].astype("float64"), Y[:16]), (X[16:].astype("float64"), Y[16:])], 1)
    assert run.step == 2
    for x, y in zip(weights(ours), weights(theirs), strict=True):
        assert_close(x, y, rtol=1e-12)


def test_the_average_is_what_is_validated(tmp_path: Any) -> None:
    run = trainer(ema=0.5, out=tmp_path, rate=1.0)
    run.fit(BATCHES, 1, validation={"test": BATCHES})
    assert run.averaged is not None and int(run.averaged.n_averaged) == 6 and not same(run.model, run.averaged.module)
    averaged = nn.load_file(tmp_path / "model.safetensors")
    assert all((averaged[name] == p.data).all() for name, p in run.averaged.module.named_parameters())
    outputs = run.averaged.module(X).data
    assert_close(run.history[0]["test_loss"], float(nn.functional.cross_entropy(outputs, Y)), rtol=1e-5)


@pytest.mark.parametrize("amp", ["float16", "bfloat16"])
def test_products_in_16_bits(amp: str) -> None:
    xp = pytest.importorskip("torch") if amp == "bfloat16" else np
    dtypes: set[str] = set()

    class Look(nn.Module):
        def forward(self, x: Any) -> Any:
            dtypes.add(str(x.dtype).rpartition(".")[2])
            return x

    ad.manual_seed(0)
    with ad.defaults(xp=xp):
        net = nn.Sequential(nn.Linear(4, 8), Look(), nn.ReLU(), nn.Linear(8, 3))
    run = trainer(net, amp=amp, clip_norm=1.0)
    with np.errstate(over="ignore", invalid="ignore"):  # the first scales are too large, as they should
        history = run.fit(BATCHES, 8, validation=BATCHES)
    assert dtypes == {amp} and history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert run.scaler.is_enabled() == (amp == "float16") and {str(p.dtype).rpartition(".")[2] for p in net.parameters()} == {"float32"}


def test_a_step_that_the_scaler_leaves_out_is_none_of_the_scheduler() -> None:
    run = trainer(amp="float16", scheduler=lambda o: nn.optim.lr_scheduler.StepLR(o, 1), scheduler_every="step")
    bad = (np.full((4, 4), np.inf, "float32"), Y[:4])
    with np.errstate(all="ignore"):
        run.fit([bad, BATCHES[0]], 1)
    assert run.scheduler.last_epoch == 1 and run.scaler.get_scale() == 2.0**15


def test_gradients_of_limited_size() -> None:
    seen: list[float] = []

    class Look(Callback):
        def on_step_end(self, trainer: Any) -> None:
            seen.append(max(float(np.abs(p.grad).max()) for p in trainer.model.parameters()))

    trainer(clip_value=0.01, callbacks=[Look()]).fit(BATCHES, 1)
    assert len(seen) == 6 and max(seen) == np.float32(0.01)


def test_batches_of_ones_own_kind() -> None:
    class Reconstruct(nn.Trainer):
        def forward(self, model: Any, batch: Any) -> Any:
            x = self.to_model(batch)["x"]
            output = model(x)
            return self.loss(output, x), output, x

    net = nn.Linear(4, 4)
    run = Reconstruct(net, nn.MSELoss(), nn.optim.Adam(net.parameters(), lr=0.05))
    history = run.fit([{"x": x} for x, _ in BATCHES], 20, validation=[{"x": X}])
    assert history[-1]["val_loss"] < 0.2 * history[0]["val_loss"]


def test_several_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, a: Any, b: Any) -> Any:
            return self.layer(a) + self.layer(b)

    net = Sum()
    history = nn.Trainer(net, nn.CrossEntropyLoss(), nn.optim.Adam(net.parameters())).fit([(x, x, y) for x, y in BATCHES], 1)
    assert np.isfinite(history[0]["train_loss"])


def test_a_lazy_model(backend: support.Backend) -> None:
    if backend.name == "dask":
        pytest.skip("lazy parameters remember every step")
    with ad.defaults(xp=backend.xp):
        net = nn.Sequential(nn.LazyLinear(3))
    batches = [(backend.asarray(x), backend.asarray(y)) for x, y in BATCHES]
    net(batches[0][0])
    trainer(net).fit(batches, 1)
    assert tuple(net[0].weight.shape) == (3, 4)


# --- schedulers, stopping, callbacks --------------------------------------------------------------------------------------------------------
def test_a_scheduler_by_epochs_and_one_by_results() -> None:
    run = trainer(scheduler=lambda o: nn.optim.lr_scheduler.StepLR(o, 2, gamma=0.1))
    assert [round(r["lr"], 6) for r in run.fit(BATCHES, 5)] == [0.1, 0.1, 0.01, 0.01, 0.001]
    run = trainer(rate=1e-9, scheduler=lambda o: nn.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1, eps=0.0), monitor="val_loss")
    assert [r["lr"] for r in run.fit(BATCHES, 4, validation=BATCHES)] == pytest.approx([1e-9, 1e-9, 1e-9, 1e-10])


def test_early_stopping() -> None:
    run = trainer(rate=1e-12, callbacks=[EarlyStopping(patience=2)])
    assert len(run.fit(BATCHES, 20, validation=BATCHES)) == 4 and run.stop
    run = trainer(callbacks=[EarlyStopping(patience=2, min_delta=10.0, monitor="train_loss", mode="max")])
    assert len(run.fit(BATCHES, 20)) == 4


def test_the_order_of_calls() -> None:
    calls: list[str] = []

    class Tell(Callback):
        pass

    for moment in nn.trainer.callbacks.MOMENTS:
        setattr(Tell, moment, lambda self, *args, moment=moment: calls.append(moment.removeprefix("on_")))
    trainer(callbacks=[Tell()], log_every=2).fit(BATCHES[:3], 1)
    assert calls == ["start", "epoch_start", "step_end", "log", "step_end", "step_end", "log", "epoch_end", "end", "close"]


def test_what_breaks_off_is_closed(tmp_path: Any) -> None:
    closed: list[bool] = []

    class Break(Callback):
        def on_step_end(self, trainer: Any) -> None:
            raise RuntimeError("enough")

        def on_close(self, trainer: Any) -> None:
            closed.append(True)

    run = trainer(callbacks=[Break()], out=tmp_path)
    with pytest.raises(RuntimeError, match="enough"):
        run.fit(BATCHES, 1)
    assert closed == [True] and run.callbacks[0].file is None


def test_more_epochs_later_are_the_same_as_at_once() -> None:
    once, twice = trainer(), trainer()
    once.fit(BATCHES, 4)
    twice.fit(BATCHES, 2)
    assert len(twice.fit(BATCHES, 4)) == 4 and same(once.model, twice.model)


def test_evaluation_leaves_the_mode_and_the_weights() -> None:
    run = trainer()
    before = [w.copy() for w in weights(run.model)]
    results = run.evaluate(BATCHES)
    assert run.model.training and list(results) == ["loss"]
    assert all((a == b).all() for a, b in zip(before, weights(run.model), strict=True))
    assert np.isnan(run.evaluate([])["loss"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trainer(accumulate=0), ValueError, "Trainer: accumulate is an integer of 1 or more, not 0"),
        (lambda: trainer(mode="least"), ValueError, "Trainer: mode is 'min' or 'max', not 'least'"),
        (lambda: trainer(scheduler_every="batch"), ValueError, "Trainer: scheduler_every is 'epoch' or 'step', not 'batch'"),
        (lambda: trainer(amp="float8"), ValueError, "Trainer: amp is 'float16' or 'bfloat16', not 'float8'"),
        (lambda: trainer(checkpoint_every=5), ValueError, "Trainer: checkpoint_every needs out"),
        (lambda: trainer().fit(BATCHES, resume="auto"), ValueError, 'Trainer.fit: resume="auto" needs out'),
        (lambda: trainer(monitor="val_los").fit(BATCHES, validation=BATCHES), KeyError, "there is no result 'val_los'; 'val_loss' is near"),
        (lambda: trainer(callbacks=[nn.trainer.TensorBoard()]).fit(BATCHES), ValueError, "TensorBoard writes into the trainer's folder"),
        (lambda: trainer(callbacks=[nn.trainer.Curves()]).fit(BATCHES), ValueError, "Curves draws into the trainer's folder"),
        (
            lambda: nn.Trainer(net := model(), lambda a, b: 1.0, nn.optim.SGD(net.parameters())).fit(BATCHES),
            TypeError,
            "Trainer: the loss is a float without",
        ),
        (lambda: nn.Trainer(net := model(), nn.CrossEntropyLoss(), nn.optim.LBFGS(net.parameters())).fit(BATCHES), TypeError, "closure"),
        (lambda: EarlyStopping(mode="up"), ValueError, "EarlyStopping: mode is 'min' or 'max', not 'up'"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
