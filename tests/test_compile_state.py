"""ad.compile of functions that change what they close over: everything is left as the plain call leaves it, to the last bit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

RNG = np.random.default_rng(0)
BATCHES = [(RNG.normal(size=(16, 4)), RNG.integers(0, 3, 16)) for _ in range(5)]


def network(dtype: str = "float32") -> Any:
    ad.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return model.double() if dtype == "float64" else model


class Side:
    """One of two alike: the plain one, and the one whose step is compiled."""

    def __init__(self, make: Callable[[Any], Any], dtype: str = "float32", model: Any = None) -> None:
        self.model = network(dtype) if model is None else model
        self.optimizer = make(self.model)
        self.dtype = dtype
        self.generator: Any = None

    def batch(self, i: int) -> Any:
        x, y = BATCHES[i % len(BATCHES)]
        return x.astype(self.dtype), y


def plain_step(side: Side) -> Callable[..., Any]:
    model, optimizer = side.model, side.optimizer

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def assert_alike(a: Side, b: Side) -> None:
    """Compare parameters, buffers, gradients, and all that the optimizers remember."""
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or p.grad.dtype == q.grad.dtype
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, q.grad)
            assert type(p.grad) is np.ndarray
        assert type(p.payload) is np.ndarray
    one, other = a.optimizer.state_dict(), b.optimizer.state_dict()
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for key, state in one["state"].items():
        assert state.keys() == other["state"][key].keys()
        for name, value in state.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(other["state"][key][name]))


def assert_both_alike(
    make: Callable[[Any], Any], stepper: Callable[[Side], Any] = plain_step, calls: int = 5, between: Any = None, **options: Any
) -> Any:
    """Run the plain and the compiled step side by side, and compare after each call; give the compiled one."""
    a, b = Side(make, **copy.deepcopy(options)), Side(make, **copy.deepcopy(options))
    plain, compiled = stepper(a), ad.compile(stepper(b))
    for i in range(calls):
        ad.manual_seed(i)
        want = plain(*a.batch(i))
        after = ad.random.default_generator.get_state()
        ad.manual_seed(i)
        got = compiled(*b.batch(i))
        assert ad.random.default_generator.get_state() == after
        if want is not None:
            assert isinstance(got, ad.Variable) == isinstance(want, ad.Variable)
            np.testing.assert_array_equal(np.asarray(getattr(got, "data", got)), np.asarray(getattr(want, "data", want)))
        assert_alike(a, b)
        if between is not None:
            between(a, i)
            between(b, i)
    return compiled


def reasons(compiled: Any) -> list[str]:
    return [c.reason for c in compiled.captures]


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda m: nn.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: nn.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda m: nn.optim.Adam(m.parameters(), lr=0.01),
    "amsgrad": lambda m: nn.optim.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "adamw": lambda m: nn.optim.AdamW(m.parameters(), lr=0.01),
    "rmsprop": lambda m: nn.optim.RMSprop(m.parameters(), lr=0.01, centered=True),
    "muon": lambda m: nn.optim.Muon([p for p in m.parameters() if p.ndim == 2], lr=0.01),
    "lookahead": lambda m: nn.optim.Lookahead(nn.optim.Adagrad(m.parameters(), lr=0.01), k=2),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step(name: str, dtype: str) -> None:
    compiled = assert_both_alike(OPTIMIZERS[name], dtype=dtype)
    assert reasons(compiled) == ["the first call", "what the function holds has gradients"]


def test_the_function_runs_at_captures_only() -> None:
    side = Side(OPTIMIZERS["adam"])
    inner = plain_step(side)

    runs: list[int] = []
    note = runs.append  # a method of a builtin, which is not looked into

    def step(x: Any, y: Any) -> Any:
        note(1)
        return inner(x, y)

    compiled = ad.compile(step)
    for i in range(6):
        compiled(*side.batch(i))
    assert runs == [1, 1]
    assert [len(c.graphs) for c in compiled.captures] == [2, 2]


def test_a_scheduler_between_calls() -> None:
    def make(model: Any) -> Any:
        return nn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    schedulers: dict[int, Any] = {}

    def between(side: Side, i: int) -> None:
        if id(side) not in schedulers:
            schedulers[id(side)] = nn.optim.lr_scheduler.StepLR(side.optimizer, 1, gamma=0.5)
        schedulers[id(side)].step()

    assert len(assert_both_alike(make, between=between).captures) == 2


def test_a_scheduler_inside() -> None:
    def stepper(side: Side) -> Any:
        inner, scheduler = plain_step(side), nn.optim.lr_scheduler.CosineAnnealingLR(side.optimizer, 4)

        def step(x: Any, y: Any) -> Any:
            loss = inner(x, y)
            scheduler.step()
            return loss

        return step

    assert len(assert_both_alike(OPTIMIZERS["momentum"], stepper).captures) == 2


def test_a_scheduler_that_looks_at_the_loss() -> None:
    def stepper(side: Side) -> Any:
        inner = plain_step(side)
        scheduler = nn.optim.lr_scheduler.ReduceLROnPlateau(side.optimizer, patience=0, threshold=0.5)

        def step(x: Any, y: Any) -> Any:
            loss = inner(x, y)
            scheduler.step(loss.detach())
            return loss

        return step

    assert len(assert_both_alike(OPTIMIZERS["adam"], stepper).captures) == 2


@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_clipping(max_norm: float) -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad()
            loss = F.cross_entropy(side.model(x), y)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(side.model.parameters(), max_norm)
            nn.utils.clip_grad_value_(side.model.parameters(), 0.05)
            side.optimizer.step()
            return norm * 2

        return step

    assert len(assert_both_alike(OPTIMIZERS["momentum"], stepper).captures) == 2


def test_gradients_add_up_without_zero_grad() -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(side.model(x), y)
            loss.backward()
            return loss.detach()

        return step

    def between(side: Side, i: int) -> None:
        if i % 2:
            side.optimizer.step()
            side.optimizer.zero_grad()

    assert len(assert_both_alike(OPTIMIZERS["adam"], stepper, calls=6, between=between).captures) == 2


def test_zero_grad_with_zeros() -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad(set_to_none=False)
            loss = F.cross_entropy(side.model(x), y)
            loss.backward()
            side.optimizer.step()
            return loss

        return step

    assert_both_alike(OPTIMIZERS["adam"], stepper)


def test_several_batches_and_two_optimizers_in_one_call() -> None:
    """The second loss sees the parameters that the first step made, and a value from before."""

    def make(model: Any) -> Any:
        return nn.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    def stepper(side: Side) -> Any:
        head = nn.optim.Adam(side.model[4].parameters(), lr=0.01)

        def step(x: Any, y: Any) -> Any:
            losses = []
            for optimizer in (side.optimizer, head, side.optimizer):
                optimizer.zero_grad()
                loss = F.cross_entropy(side.model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            return losses[0] + losses[1] * losses[2]

        return step

    compiled = assert_both_alike(make, stepper)
    assert [len(c.graphs) for c in compiled.captures] == [4, 4]


def test_frozen_and_unused_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unused = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(2, 2)
            self.a.weight.requires_grad = False

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x))

    ad.manual_seed(1)
    assert_both_alike(OPTIMIZERS["momentum"], model=Model())


def test_one_gradient_for_two_parameters_is_two_arrays() -> None:
    a, b = ad.Variable(np.zeros(3)), ad.Variable(np.ones(3))

    @ad.compile
    def step(x: Any) -> Any:
        ((a + b) * x).sum().backward()

    step(np.ones(3))
    a.grad += 1
    assert_exact(a.grad, np.full(3, 2.0))
    assert_exact(b.grad, np.ones(3))


def test_a_gradient_that_is_an_argument_or_broadcast_is_an_array_of_its_own() -> None:
    a, x = ad.Variable(np.zeros(3)), np.ones(3)

    @ad.compile
    def step(x: Any) -> Any:
        (a * x).sum().backward()

    step(x)
    a.grad += 1
    assert_exact(x, np.ones(3))


def test_a_state_is_loaded_between_calls() -> None:
    kept: dict[int, Any] = {}

    def between(side: Side, i: int) -> None:
        if i == 1:
            kept[id(side)] = copy.deepcopy((side.model.state_dict(), side.optimizer.state_dict()))
        if i == 3:
            side.model.load_state_dict(kept[id(side)][0])
            side.optimizer.load_state_dict(kept[id(side)][1])

    assert len(assert_both_alike(OPTIMIZERS["adam"], calls=6, between=between).captures) == 2


def test_modes_between_calls() -> None:
    def between(side: Side, i: int) -> None:
        side.model.train(i % 2 == 0)

    compiled = assert_both_alike(OPTIMIZERS["adam"], calls=6, between=between)
    assert len(compiled.captures) == 3
    assert "training is False, not True" in reasons(compiled)[-1]


def test_settings_of_modules_and_numbers_of_closures() -> None:
    scale = 1.0

    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad()
            loss = F.cross_entropy(side.model(x), y) * scale
            loss.backward()
            side.optimizer.step()
            return loss

        return step

    def between(side: Side, i: int) -> None:
        nonlocal scale
        side.model[3].p = 0.25
        scale = 2.0

    compiled = assert_both_alike(OPTIMIZERS["sgd"], stepper, between=between)
    assert len(compiled.captures) == 2
    assert "scale is 2.0, not 1.0" in reasons(compiled)[-1]
    assert ".p is 0.25, not 0.5" in reasons(compiled)[-1]


def test_another_parameter_in_the_place_of_one() -> None:
    def between(side: Side, i: int) -> None:
        if i == 2:
            side.model[4].bias = nn.Parameter(np.ones(3, "float32"))
            side.optimizer.add_param_group({"params": [side.model[4].bias]})

    compiled = assert_both_alike(OPTIMIZERS["sgd"], between=between)
    assert reasons(compiled)[2] == "the function holds other parameters and buffers"


def test_changes_under_no_grad() -> None:
    """An update that the user wrote, and a moving average of the parameters."""

    def stepper(side: Side) -> Any:
        averages = [ad.Variable(p.data.copy(), requires_grad=False) for p in side.model.parameters()]
        side.model.averages = averages

        def step(x: Any, y: Any) -> Any:
            side.model.zero_grad()
            loss = F.cross_entropy(side.model(x), y)
            loss.backward()
            with ad.no_grad():
                for p, average in zip(side.model.parameters(), averages, strict=True):
                    p -= 0.1 * p.grad
                    average *= 0.9
                    average += 0.1 * p
            return averages[0].sum()

        return step

    assert_both_alike(OPTIMIZERS["sgd"], stepper)


def test_a_method_of_a_trainer_and_modules_as_arguments() -> None:
    class Trainer:
        def __init__(self, side: Side) -> None:
            self.side, self.rate, self.history = side, 0.5, [1.0]

        def loss(self, x: Any, y: Any) -> Any:
            return F.cross_entropy(self.side.model(x), y) * self.rate

        def step(self, x: Any, y: Any) -> Any:
            self.side.optimizer.zero_grad()
            loss = self.loss(x, y)
            loss.backward()
            self.side.optimizer.step()
            return loss

    assert len(assert_both_alike(OPTIMIZERS["adam"], lambda side: Trainer(side).step).captures) == 2

    def update(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    a, b = Side(OPTIMIZERS["adam"]), Side(OPTIMIZERS["adam"])
    compiled = ad.compile(update)
    for i in range(3):
        ad.manual_seed(i)
        update(a.model, a.optimizer, *a.batch(i))
        ad.manual_seed(i)
        compiled(b.model, b.optimizer, *b.batch(i))
        assert_alike(a, b)
    assert len(compiled.captures) == 2


def test_evaluation_is_a_graph_too() -> None:
    side = Side(OPTIMIZERS["sgd"])
    side.model.eval()

    @ad.compile
    @ad.no_grad()
    def predict(x: Any) -> Any:
        return side.model(x)

    x, _ = side.batch(0)
    assert_exact(predict(x).data, side.model(x).data)
    side.optimizer.zero_grad()
    F.cross_entropy(side.model(x), side.batch(0)[1]).backward()
    side.optimizer.step()
    assert_exact(predict(x).data, side.model(x).data)


def test_mixed_precision_with_a_scaler() -> None:
    def stepper(side: Side) -> Any:
        scaler = nn.amp.GradScaler(init_scale=2.0**4, growth_interval=2)

        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad()
            loss = F.cross_entropy(side.model(x), y)
            scaler.scale(loss).backward()
            scaler.step(side.optimizer)
            scaler.update()
            return loss

        return step

    compiled = assert_both_alike(OPTIMIZERS["adam"], stepper)
    assert any("scale is 32.0, not 16.0" in r for r in reasons(compiled))


def test_lazy_modules_are_captured_once_they_have_shapes() -> None:
    def make_side() -> Side:
        ad.manual_seed(0)
        return Side(OPTIMIZERS["sgd"], model=nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3)))

    a, b = make_side(), make_side()
    plain, compiled = plain_step(a), ad.compile(plain_step(b))
    for i in range(3):
        ad.manual_seed(i)
        plain(*a.batch(i))
        ad.manual_seed(i)
        compiled(*b.batch(i))
        assert_alike(a, b)
    assert len(compiled.captures) == 1


def test_hooks() -> None:
    def stepper(side: Side) -> Any:
        side.model[0].weight.register_hook(lambda g: g * 0.5)
        side.model[2].register_forward_hook(lambda module, args, y: y * 2)
        return plain_step(side)

    assert_both_alike(OPTIMIZERS["sgd"], stepper)


def test_threads_take_turns() -> None:
    side = Side(lambda m: nn.optim.SGD(m.parameters(), lr=0.0))
    compiled = ad.compile(plain_step(side))
    before = side.model[0].weight.data.copy()
    threads = [threading.Thread(target=lambda: [compiled(*side.batch(i)) for i in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_exact(side.model[0].weight.data, before)
    assert int(side.model[1].num_batches_tracked.data) == 20


def test_averages_of_models_and_norms() -> None:
    def stepper(side: Side) -> Any:
        inner, averaged = plain_step(side), nn.optim.swa_utils.AveragedModel(side.model)

        def step(x: Any, y: Any) -> Any:
            inner(x, y)
            averaged.update_parameters(side.model)
            average = sum(p.detach().sum() for p in averaged.parameters())
            return average * nn.utils.get_total_norm([p.grad for p in side.model.parameters()])

        return step

    assert len(assert_both_alike(OPTIMIZERS["sgd"], stepper).captures) == 2


def test_a_batch_may_be_wrapped_inside() -> None:
    def stepper(side: Side) -> Any:
        inner = plain_step(side)

        def step(x: Any, y: Any) -> Any:
            x = ad.Variable(x, requires_grad=True)
            loss = inner(x * 2, y)
            return loss.detach() + abs(x.grad).sum()

        return step

    assert_both_alike(OPTIMIZERS["adam"], stepper)


def test_a_second_compiled_function_inside() -> None:
    def stepper(side: Side) -> Any:
        inner = ad.compile(plain_step(side))
        return lambda x, y: (inner(x, y) * 2).detach()

    assert len(assert_both_alike(OPTIMIZERS["adam"], stepper).captures) == 2


def test_dropout_under_a_checkpoint_is_drawn_once() -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad()
            loss = F.cross_entropy(side.model[4](ad.checkpoint(side.model[2:4])(side.model[1](side.model[0](x)))), y)
            loss.backward()
            side.optimizer.step()
            return loss

        return step

    assert assert_both_alike(OPTIMIZERS["sgd"], stepper).captures[0].graph.counts()["nn.keep"] == 1


def test_an_array_of_the_closure_that_is_replaced() -> None:
    weights = np.ones(3, "float32")

    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.optimizer.zero_grad()
            loss = F.cross_entropy(side.model(x), y, weight=weights)
            loss.backward()
            side.optimizer.step()
            return loss

        return step

    def between(side: Side, i: int) -> None:
        nonlocal weights
        weights = np.asarray([1, 2, 3], "float32")

    assert assert_both_alike(OPTIMIZERS["adam"], stepper, between=between, calls=2).captures[-1].reason.endswith("weights is another")


@pytest.mark.parametrize("backend", support.params())
def test_every_library(backend: Any) -> None:
    xp = backend.xp

    def side() -> Any:
        ad.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8, xp=xp), nn.BatchNorm1d(8, xp=xp), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3, xp=xp))
        return model, nn.optim.Adam(model.parameters(), lr=0.01)

    sides = side(), side()
    plain, compiled = clipped(*sides[0]), ad.compile(clipped(*sides[1]))
    for i, (x, y) in enumerate(BATCHES[:3]):
        batch = xp.asarray(x.astype("float32")), xp.asarray(y)
        ad.manual_seed(i)
        want = plain(*batch)
        ad.manual_seed(i)
        got = compiled(*batch)
        assert_close(got.data, want.data, rtol=1e-5)  # jax.jit fuses, and rounds otherwise
    for p, q in zip(sides[0][0].parameters(), sides[1][0].parameters(), strict=True):
        assert_close(p.data, q.data, rtol=1e-5, atol=1e-6)


def clipped(model: Any, optimizer: Any) -> Callable[..., Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    return step


# --- what is refused ------------------------------------------------------------------------------------------------------------------------
def assert_refused(stepper: Callable[[Side], Any], text: str, error: Any = ad.errors.UnsupportedError) -> None:
    side, untouched = Side(OPTIMIZERS["adam"]), Side(OPTIMIZERS["adam"])
    compiled = ad.compile(stepper(side))
    with pytest.raises(error, match=text):
        compiled(*side.batch(0))
    assert_alike(side, untouched)


def test_a_value_is_refused_and_nothing_has_changed() -> None:
    def stepper(side: Side) -> Any:
        inner = plain_step(side)
        return lambda x, y: inner(x, y).item()

    assert_refused(stepper, r"item\(\) needs a value.*test_compile_state.py:\d+")


def test_a_choice_by_value_is_refused() -> None:
    def stepper(side: Side) -> Any:
        inner = plain_step(side)
        return lambda x, y: 1 if inner(x, y) > 0 else 2

    assert_refused(stepper, "`if`, `while`, `and` and `or` need a value")


def test_what_can_still_be_differentiated_is_refused() -> None:
    assert_refused(lambda side: lambda x, y: F.cross_entropy(side.model(x), y), r"could still be differentiated.*return x.detach\(\)")


def test_a_closure_for_the_optimizer_is_refused() -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            return side.optimizer.step(lambda: F.cross_entropy(side.model(x), y))

        return step

    assert_refused(stepper, r"step with a function \(<lambda>\) as an argument cannot be kept.*call .*step without it")


def test_what_the_function_stores_is_refused() -> None:
    losses: list[Any] = []
    count = 0

    def appending(side: Side) -> Any:
        inner = plain_step(side)

        def step(x: Any, y: Any) -> None:
            losses.append(inner(x, y))

        return step

    def counting(side: Side) -> Any:
        inner = plain_step(side)

        def step(x: Any, y: Any) -> Any:
            nonlocal count
            count += 1
            return inner(x, y)

        return step

    assert_refused(appending, "the function changes .*, which a graph cannot keep")
    assert_refused(counting, "the function changes count, which a graph cannot keep.*store it outside")


def test_freezing_inside_is_refused() -> None:
    def stepper(side: Side) -> Any:
        def step(x: Any, y: Any) -> Any:
            side.model[0].weight.requires_grad = False
            return F.cross_entropy(side.model(x), y).detach()

        return step

    assert_refused(stepper, r"changes requires_grad.*shape \(8, 4\)")


def test_a_parameter_that_is_not_found_is_refused() -> None:
    hidden = ad.Variable(np.ones(4))
    side = Side(OPTIMIZERS["sgd"])
    get = {"x": hidden}.__getitem__  # a method of a builtin, which is not looked into

    @ad.compile
    def step(x: Any) -> Any:
        (side.model(x).sum() + get("x").sum()).backward()

    with pytest.raises(ad.errors.UnsupportedError, match=r"backward\(\) reached a Variable that was not found"):
        step(side.batch(0)[0])
    assert hidden.grad is None


def test_variables_as_arguments_run_as_they_are() -> None:
    side = Side(OPTIMIZERS["adam"])
    x, y = side.batch(0)
    compiled = ad.compile(plain_step(side))
    assert compiled(ad.Variable(x, requires_grad=False), y).grad_fn is not None
    assert compiled.captures == []


def test_numbers_of_an_optimizer_that_are_read() -> None:
    model = nn.Linear(3, 1)
    optimizer = nn.optim.SGD(model.parameters(), lr=0.5)
    schedule = nn.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    x = np.ones((2, 3), "float32")

    @ad.compile
    def reads(x: Any) -> Any:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        return ad.namespace(x).sum(x) * optimizer.param_groups[0]["lr"]

    @ad.compile
    def steps(x: Any) -> Any:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    found = []
    for _ in range(3):
        found.append(float(reads(x)))
        steps(x)
        schedule.step()
    assert found == [3.0, 1.5, 0.75]
    assert "param_groups[0]['lr'] is 0.125, not 0.25" in reads.captures[-1].reason
    assert len(steps.captures) == 1, "a step that leaves the numbers to the optimizer is captured once"

    @ad.compile
    def changes(x: Any) -> Any:
        optimizer.param_groups[0]["lr"] = 2.0
        return x * 2

    with pytest.raises(ad.errors.UnsupportedError, match=r"changes optimizer\.param_groups\[0\]\['lr'\]"):
        changes(x)
