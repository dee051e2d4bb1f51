"""Hooks of modules, beside torch's; and what errors say of the layer where they happened."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from derivatives import assert_exact

import agnostic_ad as ad
from agnostic_ad import nn

torch = pytest.importorskip("torch")


# --- forward --------------------------------------------------------------------------------------------------------------------------------
class Scaled(nn.Module):
    def forward(self, x: Any, *, by: float = 1.0) -> Any:
        return x * by


class TorchScaled(torch.nn.Module):
    def forward(self, x: Any, *, by: float = 1.0) -> Any:
        return x * by


def forward_hooks(module: Any) -> list[Any]:
    """Register hooks of all kinds; give the list that they write to."""
    seen: list[Any] = []
    module.register_forward_pre_hook(lambda m, args: seen.append("pre"))
    module.register_forward_pre_hook(lambda m, args: seen.append("first") or (args[0] + 1,), prepend=True)
    module.register_forward_pre_hook(lambda m, args: args[0] * 2)
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": kwargs["by"] * 10}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, result: seen.append(("args", float(args[0]), float(result))))
    module.register_forward_hook(lambda m, args, kwargs, result: seen.append(kwargs) or result - 1, with_kwargs=True)
    module.register_forward_hook(lambda m, args, result: seen.append("last") or result * 2, prepend=True)
    return seen


def test_forward_hooks_as_torch() -> None:
    ours, theirs = Scaled(), TorchScaled()
    seen, wanted = forward_hooks(ours), forward_hooks(theirs)
    assert float(ours(np.asarray(3.0), by=2.0)) == float(theirs(torch.tensor(3.0), by=2.0)) == (3 + 1) * 2 * 20 * 2 - 1
    assert seen == wanted == ["first", "pre", "last", ("args", 8.0, 320.0), {"by": 20.0}]


def test_handles() -> None:
    module = Scaled()
    with module.register_forward_hook(lambda m, args, result: result + 1) as handle:
        assert module(1.0) == 2.0 and handle.id in module._forward_hooks
        handle.remove()
        handle.remove()
        assert module(1.0) == 1.0
    module.register_forward_hook(lambda m, args, result: result + 1)
    module._forward_hooks.clear()  # as much code does
    assert module(1.0) == 1.0
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(TypeError, match=r"a forward pre-hook with kwargs returns None or \(args, kwargs\), not \(1.0,\)"):
        module(1.0)


def plus_one(module: Any, args: Any, result: Any) -> Any:
    return result + 1


def test_copies_have_hooks_of_their_own() -> None:
    module = Scaled()
    handle = module.register_forward_hook(plus_one)
    copied, pickled = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    handle.remove()
    assert module(1.0) == 1.0 and copied(1.0) == pickled(1.0) == 2.0
    both = nn.ModuleList([module])
    both.handle = module.register_forward_hook(plus_one)
    other = copy.deepcopy(both)
    other.handle.remove()  # of the copy
    assert other[0](1.0) == 1.0 and module(1.0) == 2.0


def test_hooks_that_are_always_called() -> None:
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("no")

    seen: list[Any] = []
    module = Fails()
    module.register_forward_hook(lambda m, args, result: seen.append("never"))
    module.register_forward_hook(lambda m, args, result: seen.append(result), always_call=True)
    module.register_forward_hook(lambda m, args, kwargs, result: seen.append(kwargs), always_call=True, with_kwargs=True)
    with pytest.raises(ValueError, match="no"):
        module(x=1)
    assert seen == [None, {"x": 1}]
    module = Scaled()
    module.register_forward_hook(lambda m, args, result: seen.append(result), always_call=True)

    def fail(m: Any, args: Any, result: Any) -> None:
        raise KeyError("hook")

    module.register_forward_hook(fail, always_call=True)
    with pytest.raises(KeyError, match="hook"):
        module(2.0)
    assert seen[2:] == [2.0]  # once
    module = Fails()
    module.register_forward_hook(fail, always_call=True)
    with (
        pytest.warns(RuntimeWarning, match="a forward hook with always_call=True failed after the module had"),
        pytest.raises(ValueError, match="no"),
    ):
        module(1)


# --- backward -------------------------------------------------------------------------------------------------------------------------------
def lists(grads: Any) -> Any:
    """Give gradients as lists, to compare; None stays."""
    return tuple(None if g is None else np.asarray(g.detach() if isinstance(g, torch.Tensor) else g).tolist() for g in grads)


class Several(nn.Module):
    def forward(self, a: Any, b: Any, word: str = "", k: Any = None) -> Any:
        return a * b * 2, a + 1, a.detach(), word


class TorchSeveral(torch.nn.Module):
    forward = Several.forward


def run_both(ours: Any, theirs: Any, hooks: Any, use: Any, *arguments: Any) -> tuple[list[Any], list[Any]]:
    """Run hooks and a backward pass in both libraries; compare the leaves' gradients, and give what the hooks saw."""
    results = []
    for library, module in (("ours", ours), ("torch", theirs)):
        seen: list[Any] = []
        hooks(module, seen)
        leaf = ad.Variable if library == "ours" else lambda x: torch.tensor(x, requires_grad=True)
        given = [leaf(np.asarray(a)) if isinstance(a, float) else a for a in arguments]
        use(module(*given))
        grads = [x.grad for x in given if hasattr(x, "grad")]
        results.append((seen, lists(grads)))
    assert results[0][1] == results[1][1]
    return results[0][0], results[1][0]


def note(module: Any, seen: list[Any]) -> None:
    module.register_full_backward_hook(lambda m, gi, go: seen.append(("full", lists(gi), lists(go))))
    module.register_full_backward_pre_hook(lambda m, go: seen.append(("pre", lists(go))))


def change(module: Any, seen: list[Any]) -> None:
    note(module, seen)
    module.register_full_backward_pre_hook(lambda m, go: tuple(None if g is None else g * 5 for g in go))
    module.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10, None, *gi[2:]))
    module.register_full_backward_hook(lambda m, gi, go: seen.append(("then", lists(gi))))
    module.register_full_backward_hook(lambda m, gi, go: seen.append("first"), prepend=True)
    module.register_full_backward_pre_hook(lambda m, go: seen.append("before"), prepend=True)


def one_at_a_time(y: Any) -> None:
    y[0].backward(retain_graph=True)
    y[1].backward()


@pytest.mark.parametrize("hooks", [note, change])
@pytest.mark.parametrize(
    ("use", "arguments"),
    [
        (lambda y: y[0].backward(), (2.0, 3.0, "word")),
        (lambda y: (y[0] + y[1]).backward(), (2.0, 3.0)),
        (lambda y: y[1].backward(), (2.0, 3.0, "word")),
        (one_at_a_time, (2.0, 3.0)),
    ],
)
def test_backward_hooks_as_torch(hooks: Any, use: Any, arguments: Any) -> None:
    seen, wanted = run_both(Several(), TorchSeveral(), hooks, lambda y: use(y[:2]), *arguments)
    assert seen == wanted and seen


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # torch's, and what is tested here
def test_no_argument_requires_grad() -> None:
    ours, theirs = nn.Linear(1, 2, dtype="float64"), torch.nn.Linear(1, 2, dtype=torch.float64)
    for module in (ours, theirs):
        module.eval()
    ours.load_state_dict(theirs.state_dict())
    seen: tuple[list[Any], list[Any]] = ([], [])
    for module, x, into in ((ours, np.ones((1, 1)), seen[0]), (theirs, torch.ones(1, 1, dtype=torch.float64), seen[1])):
        note(module, into)
        module(x).sum().backward()
    assert seen[0] == seen[1] == [("pre", ([[1.0, 1.0]],)), ("full", (None,), ([[1.0, 1.0]],))]
    ours.register_full_backward_hook(lambda m, gi, go: (go[0][:1],))
    with pytest.raises(ValueError, match="a backward hook of Linear returns gradients of arguments that require none"):
        ours(np.ones((1, 1))).sum().backward()


def test_second_derivatives_pass_through_hooks() -> None:
    seen: list[Any] = []
    tanh = nn.Tanh()
    tanh.register_full_backward_hook(lambda m, gi, go: seen.append(type(gi[0])))
    x = ad.Variable(0.5)
    (first,) = ad.gradients(tanh(x), x, create_graph=True)
    (second,) = ad.gradients(first, x)
    t = np.tanh(0.5)
    assert_exact(first, 1 - t**2)
    assert_exact(second, -2 * t * (1 - t**2))
    assert seen == [ad.Variable]  # once: the second pass comes past the module's result


def test_hooks_record_nothing_where_nothing_is_recorded() -> None:
    module = Scaled()
    module.register_full_backward_hook(lambda m, gi, go: None)
    x = ad.Variable([1.0])
    assert module(x.data) is not None and isinstance(module(x.data), np.ndarray)
    with ad.no_grad():
        assert not module(x).requires_grad
    assert module(x, by=2.0).requires_grad


def test_hooks_inside_transformations() -> None:
    """A reverse transformation runs them; inside another transformation over it they would not be called, so they are refused."""
    module, seen = Scaled(), []  # type: ignore[var-annotated]
    module.register_full_backward_hook(lambda m, gi, go: seen.append(go) or (gi[0] * 3,))
    assert float(ad.grad(lambda x: module(x, by=2.0))(1.0)) == 6.0 and float(seen[0][0]) == 1.0
    assert ad.vmap(ad.grad(lambda x: module(x, by=2.0)))(np.ones(2)).tolist() == [6.0, 6.0]
    assert ad.jvp(module, (np.ones(2),), (np.ones(2),))[1].tolist() == [1.0, 1.0]  # no gradient here
    with pytest.raises(NotImplementedError, match=r"backward hooks of Scaled are not called inside vmap\(Scaled\) within a gradient"):
        ad.grad(lambda x: ad.vmap(module)(x).sum())(np.ones(2))


def test_what_backward_hooks_may_return() -> None:
    module = Several()
    a, b = ad.Variable(1.0), ad.Variable(2.0)
    for hook, text in (
        (lambda m, gi, go: (gi[0],), "returned 1 gradients for grad_input, which has 2"),
        (lambda m, gi, go: (np.ones(3), None), r"returned shape \(3,\) for a gradient of shape \(\)"),
    ):
        with module.register_full_backward_hook(hook), pytest.raises(ValueError, match=text):
            module(a, b)[0].backward()
    with (
        module.register_full_backward_pre_hook(lambda m, go: ()),
        pytest.raises(ValueError, match="returned 0 gradients for grad_output, which has 4"),
    ):
        module(a, b)[0].backward()
    with module.register_backward_hook(lambda m, gi, go: [ad.Variable(7.0).detach(), gi[1]]):
        module(a, b)[0].backward()
    assert float(a.grad) == 7.0 and type(a.grad) is np.ndarray


def test_backward_hooks_are_for_arrays_and_tuples() -> None:
    class Dict(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"y": x * 2}

    module, x = Dict(), ad.Variable(1.0)
    module.register_full_backward_hook(lambda m, gi, go: pytest.fail("called"))
    with pytest.warns(UserWarning, match="backward hooks of Dict are not called: it returned dict, not an array or a tuple"):
        module(x)["y"].backward()
    assert float(x.grad) == 2.0


def test_hooks_see_arrays_of_the_library(backend: Any) -> None:
    layer, seen = nn.Linear(2, 2, xp=backend.xp, dtype="float64"), []  # type: ignore[var-annotated]
    layer.register_full_backward_hook(lambda m, gi, go: seen.extend([*gi, *go]) or (gi[0] * 2,))
    x = ad.Variable(backend.asarray(np.ones((3, 2))))
    layer(x).sum().backward()
    kind = type(backend.asarray(1.0))
    assert [type(g) for g in seen] == [kind, kind] and type(x.grad) is kind
    weight = backend.numpy(layer.weight.data)
    np.testing.assert_allclose(backend.numpy(x.grad), 2 * np.ones((3, 2)) @ weight, rtol=1e-12)


# --- errors ---------------------------------------------------------------------------------------------------------------------------------
class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.linear1(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Inner() for _ in range(3))
        self.helper = None

    def forward(self, x: Any) -> Any:
        for layer in self.encoder.layers[:2]:
            layer(np.ones((2, 4), "float32"))
        return self.encoder.layers[2](x)


def test_errors_name_the_layer() -> None:
    model, x = Model(), np.ones((2, 5), "float32")
    text = r"linear: an input of shape \(2, 5\) does not fit a weight of shape \(3, 4\)"
    with pytest.raises(ValueError, match=rf"^encoder.layers.2.linear1 \(Linear\): {text}"):
        model(x)
    with pytest.raises(ValueError, match=rf"^1.encoder.layers.2.linear1 \(Linear\): {text}"):
        nn.Sequential(nn.Identity(), model)(x)
    with pytest.raises(ValueError, match=f"^{text}"):
        model.encoder.layers[2].linear1(x)  # alone it has no path
    with pytest.raises(ValueError, match=rf"^encoder.layers.2.linear1 \(Linear\): {text}"):
        ad.grad(lambda x: model(x).sum())(x)
    model.register_forward_hook(lambda m, args, result: None)
    with pytest.raises(ValueError, match=rf"^encoder.layers.2.linear1 \(Linear\): {text}"):
        model(x)


def test_errors_of_other_classes_get_a_note() -> None:
    class Stop(Exception):
        pass

    class Raises(nn.Module):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def forward(self, x: Any) -> Any:
            raise self.error

    for error in (Stop("here"), KeyError("key"), ValueError("one", "two"), Stop()):
        model = nn.Sequential(nn.Sequential(nn.Identity(), Raises(error)))
        args = error.args
        with pytest.raises(type(error)) as caught:
            model(1)
        assert caught.value is error and error.args == args and error.__notes__ == ["0.1 (Raises)"]


def test_errors_go_to_other_processes_without_the_model() -> None:
    model = nn.Sequential(nn.Linear(200, 200))
    model[0].function = lambda: None  # which cannot be pickled
    with pytest.raises(ValueError, match=r"0 \(Linear\)") as caught:
        model(np.ones((2, 5)))
    sent = pickle.dumps(caught.value)
    assert len(sent) < 500 and str(pickle.loads(sent)) == str(caught.value)


def test_an_error_of_a_module_that_is_no_part() -> None:
    inner = nn.Sequential(nn.Linear(4, 3))

    class Outer(nn.Module):
        def forward(self, x: Any) -> Any:
            return inner(x)

    with pytest.raises(ValueError, match=r"^0 \(Linear\): linear: an input"):
        nn.Sequential(Outer())(np.ones((2, 5), "float32"))
