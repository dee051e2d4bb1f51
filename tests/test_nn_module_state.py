"""The state of modules: names, hooks, loading, moving; beside torch's where there is a like."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import support
from derivatives import kind

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.namespaces import backend_of_namespace


class Counter(nn.Module):
    """A module of an older version than its states might be, with a state that is no array."""

    _version = 3

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.words = ["a"]

    def get_extra_state(self) -> Any:
        return {"words": list(self.words)}

    def set_extra_state(self, state: Any) -> None:
        self.words = state["words"]


# --- copies ---------------------------------------------------------------------------------------------------------------------------------
def test_a_bare_parameter_stays_one() -> None:
    """Copied and pickled parameters and buffers are parameters and buffers, inside and outside of modules."""
    p, b, passing = nn.Parameter([1.0, 2.0], requires_grad=False), nn.Buffer([1.0]), nn.Buffer([3.0], persistent=False)
    for again in (copy.deepcopy, copy.copy, lambda v: pickle.loads(pickle.dumps(v))):
        q, c, other = again(p), again(b), again(passing)
        assert isinstance(q, nn.Parameter) and not isinstance(q, nn.Buffer) and not q.requires_grad and q is not p
        assert isinstance(c, nn.Buffer) and not isinstance(c, nn.Parameter) and q.data.tolist() == [1.0, 2.0]
        assert not isinstance(again(ad.Variable([1.0])), nn.Parameter | nn.Buffer)
        module = nn.Module()
        module.b, module.other = c, other
        assert list(module.state_dict()) == ["b"]
    p = nn.Parameter([1.0])
    p.grad = np.ones(1, "float32")
    assert copy.deepcopy([p, p])[0].grad.tolist() == [1.0] and len({id(q) for q in copy.deepcopy([p, p])}) == 1
    assert nn.Parameter().shape == nn.Parameter(None).shape == nn.Buffer().shape == (0,)


# --- state_dict -----------------------------------------------------------------------------------------------------------------------------
def test_the_state_and_its_metadata() -> None:
    module = nn.ModuleDict({"one": Counter(), "two": nn.Sequential(nn.Linear(1, 1))})
    state = module.state_dict(prefix="net.")
    assert list(state) == ["net.one._extra_state", "net.one.linear.weight", "net.one.linear.bias", "net.two.0.weight", "net.two.0.bias"]
    assert state._metadata["net.one"] == {"version": 3} and state._metadata["net.two.0"] == {"version": 1}
    into: dict[str, Any] = {"before": 1}
    assert nn.Linear(1, 1).state_dict(destination=into, prefix="x.") is into and list(into) == ["before", "x.weight", "x.bias"]
    assert state["net.one.linear.weight"] is module["one"].linear.weight.data  # no copy


def test_extra_state() -> None:
    one, other = Counter(), Counter()
    one.words.append("b")
    assert other.load_state_dict(one.state_dict()) == ([], []) and other.words == ["a", "b"]
    state = one.state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="missing: _extra_state"):
        other.load_state_dict(state)
    with pytest.raises(RuntimeError, match="unexpected: _extra_state"):
        nn.Linear(2, 2).load_state_dict({**nn.Linear(2, 2).state_dict(), "_extra_state": 1})
    with pytest.raises(NotImplementedError, match=r"Linear has no extra state: define get_extra_state\(\)"):
        nn.Linear(1, 1).get_extra_state()
    with pytest.raises(NotImplementedError, match=r"Linear has no extra state"):
        nn.Linear(1, 1).set_extra_state(0)


def test_state_hooks() -> None:
    module = nn.Sequential(nn.Linear(1, 1))
    seen: list[Any] = []
    pre = module[0].register_state_dict_pre_hook(lambda m, prefix, keep_vars: seen.append((type(m), prefix, keep_vars)))
    post = module[0].register_state_dict_post_hook(lambda m, state, prefix, metadata: state.pop(prefix + "bias") and None)
    assert list(module.state_dict(keep_vars=True)) == ["0.weight"] and seen == [(nn.Linear, "0.", True)]
    pre.remove()
    post.remove()
    assert list(module.state_dict()) == ["0.weight", "0.bias"] and len(seen) == 1
    with (
        module.register_state_dict_post_hook(lambda *_: {}),
        pytest.raises(TypeError, match="changes the state in place and returns None, not dict"),
    ):
        module.state_dict()
    with module._register_state_dict_hook(lambda m, state, prefix, metadata: {"other": 1}):  # PyTorch's own, which code in use calls
        assert module.state_dict() == {"other": 1}


def test_load_hooks() -> None:
    module, seen = nn.Sequential(Counter()), []  # type: ignore[var-annotated]
    state = module.state_dict()
    old = OrderedDict((key.replace("linear", "fc"), value) for key, value in state.items())
    old._metadata = OrderedDict([("0", {"version": 2})])  # type: ignore[attr-defined]

    def rename(m: Any, state: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, faults: Any) -> None:
        seen.append((m, prefix, metadata, strict))
        for key in [key for key in state if key.startswith(f"{prefix}fc.")]:
            state[key.replace("fc", "linear")] = state.pop(key)

    with pytest.raises(RuntimeError, match=r"missing: 0.linear.weight, 0.linear.bias; unexpected: 0.fc.weight, 0.fc.bias"):
        module.load_state_dict(old)
    with module[0].register_load_state_dict_pre_hook(rename):
        assert module.load_state_dict(old) == ([], [])
    assert seen == [(module[0], "0.", {"version": 2}, True)]
    assert "0.fc.weight" in old  # theirs did not change
    with module._register_load_state_dict_pre_hook(lambda state, prefix, *rest: state.update({"0._extra_state": {"words": []}})):
        module.load_state_dict(state)
    assert module[0].words == []
    with module.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear()):
        assert module.load_state_dict({}) == ([], [])
    with module.register_load_state_dict_post_hook(lambda m, keys: keys), pytest.raises(TypeError, match="in place and returns None"):
        module.load_state_dict(state)


def test_states_of_batch_norm_without_a_counter() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2))
    state = module.state_dict()
    assert state._metadata["0"] == {"version": 2}
    module(np.ones((3, 2), "float32"))
    del state["0.num_batches_tracked"]
    with pytest.raises(RuntimeError, match=r"missing: 0.num_batches_tracked"):
        module.load_state_dict(state)
    assert module.load_state_dict(dict(state)) == ([], [])  # says nothing of its version
    assert int(module[0].num_batches_tracked) == 1


def test_faults_are_told_together_and_change_nothing() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: x.copy() for name, x in module.state_dict().items()}
    payloads = [p.data for p in module.parameters()]
    bad = {"0.weight": np.zeros((3, 2)), "0.bias": np.zeros(4), "1.weight": [1.0], "2.weight": np.zeros(1), "x": np.zeros(1)}
    text = (
        r"Sequential cannot load this state: missing: 1.bias; unexpected: 2.weight, x; 0.bias has shape \(4,\) in the state, "
        r"\(3,\) in the module; 1.weight is no array in the state, but of type list"
    )
    with pytest.raises(ValueError, match=text):
        module.load_state_dict(bad)
    assert all(p.data is x for p, x in zip(module.parameters(), payloads, strict=True))
    with pytest.raises(ValueError, match=r"^Sequential cannot load this state: 0.bias has shape"):
        module.load_state_dict({"0.bias": np.zeros(4)}, strict=False)
    weight = nn.Parameter(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"0.bias has shape"):
        module.load_state_dict({"0.weight": weight, "0.bias": np.zeros(4)}, strict=False, assign=True)
    assert module[0].weight is not weight
    with pytest.raises(ValueError, match=r"0.weight cannot be taken from the state: .* floating or complex arrays, not int64"):
        module.load_state_dict({"0.weight": np.zeros((3, 2), "int64")}, strict=False, assign=True)
    for name, x in module.state_dict().items():
        np.testing.assert_array_equal(x, before[name])
    with pytest.raises(TypeError, match="load_state_dict takes a mapping of names to arrays, not list"):
        module.load_state_dict([1])  # type: ignore[arg-type]
    assert repr(module.load_state_dict(before)) == "<All keys matched successfully>"
    assert repr(module.load_state_dict({}, strict=False)).startswith("IncompatibleKeys(missing_keys=['0.weight', ")


def test_loading_by_assignment() -> None:
    layer = nn.Linear(2, 1)
    weight, bias = layer.weight, layer.bias
    layer(np.ones((1, 2), "float32")).sum().backward()
    optimizer = nn.optim.SGD(layer.parameters(), lr=1.0)
    new = {"weight": np.ones((1, 2)), "bias": np.ones(1)}
    assert layer.load_state_dict(new, assign=True) == ([], [])
    assert layer.weight is weight and weight.data is new["weight"] and kind(weight.data) == "numpy.float64" and weight.grad is None
    layer(np.ones((1, 2))).sum().backward()
    optimizer.step()
    assert weight.data.tolist() == [[0.0, 0.0]] and new["weight"].tolist() == [[1.0, 1.0]]  # the state is theirs
    other = nn.Parameter(np.zeros((1, 2)))
    layer.requires_grad_(False).load_state_dict({"weight": other, "bias": np.ones(1)}, assign=True)
    assert layer.weight is other and not other.requires_grad and layer.bias is bias


def test_loading_leaves_no_cycles() -> None:
    """What a module held before goes at once, not when the garbage collector comes round."""
    module = nn.Sequential(nn.Linear(2, 2))
    state = copy.deepcopy(module.state_dict())
    before = weakref.ref(module[0].weight.data)
    gc.collect()
    gc.disable()
    try:
        module.load_state_dict(state)
        assert before() is None
    finally:
        gc.enable()


def test_a_counter_of_one_element_is_taken() -> None:
    module = nn.Module()
    module.count = nn.Buffer(np.asarray(0))
    assert module.load_state_dict({"count": np.asarray([5])}) == ([], []) and module.count.data.tolist() == 5


def test_states_go_to_torch_and_back(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(nn.Linear(3, 4), nn.ModuleDict({"a": nn.Bilinear(2, 3, 4)}))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ModuleDict({"a": torch.nn.Bilinear(2, 3, 4)}))
    assert theirs.load_state_dict({name: torch.tensor(x) for name, x in ours.state_dict().items()})[0] == []
    ours.load_state_dict({name: np.zeros_like(x) for name, x in ours.state_dict().items()})
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    for name, x in ours.state_dict().items():
        np.testing.assert_array_equal(x, theirs.state_dict()[name].numpy())


# --- attributes -----------------------------------------------------------------------------------------------------------------------------
def test_submodules_by_name() -> None:
    net = nn.Sequential(nn.Linear(1, 2), nn.Module())
    net.set_submodule("1.deep", nn.ReLU())
    assert net.get_submodule("1.deep") is net[1].deep
    net.set_submodule("0", nn.ReLU(), strict=True)
    assert type(net[0]) is nn.ReLU
    net[1].number = 3
    for target, module, error, text in (
        ("1.other", nn.ReLU(), AttributeError, "Sequential has no module '1.other'"),
        ("2.deep", nn.ReLU(), AttributeError, "Sequential has no module '2'"),
        ("1.number", nn.ReLU(), AttributeError, "Sequential has no module '1.number'"),
        ("", nn.ReLU(), ValueError, "takes the dotted name of a module, not ''"),
        ("0", 3, ValueError, "an nn.Module is wanted, not int"),
    ):
        with pytest.raises(error, match=text):
            net.set_submodule(target, module, strict=True)
    net.register_module("more", nn.ReLU())
    assert [name for name, _ in net.named_children()] == ["0", "1", "more"]
    assert len(list(nn.Sequential(net[0], net[0]).modules(remove_duplicate=False))) == 3
    assert len(list(nn.Sequential(net[0], net[0]).modules())) == 2
    for get in (net.get_parameter, net.get_buffer):
        with pytest.raises(AttributeError, match=r"Sequential has no (parameter|buffer) 'w'"):
            get("w")


def test_train_and_apply_go_through_overridden_methods() -> None:
    class Frozen(nn.Module):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    net = nn.Sequential(Frozen(), nn.ReLU()).train()
    assert net.training and not net[0].training and net[1].training
    with pytest.raises(ValueError, match=r"train\(\) takes True or False, not 1"):
        net.train(1)  # type: ignore[arg-type]


# --- moving ---------------------------------------------------------------------------------------------------------------------------------
def all_dtypes(module: nn.Module) -> dict[str, str]:
    return {name: str(v.dtype).rpartition(".")[2] for name, v in (*module.named_parameters(), *module.named_buffers())}


def test_conversions() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.z, module.n = nn.Parameter(np.ones(1, "complex64")), nn.Buffer(np.ones(1, "int32"))
    assert all_dtypes(module.double()) == {"weight": "float64", "z": "complex64", "n": "int32"}
    assert all_dtypes(module.half()) == {"weight": "float16", "z": "complex64", "n": "int32"}
    assert all_dtypes(module.float()) == {"weight": "float32", "z": "complex64", "n": "int32"}
    assert all_dtypes(module.to("complex128")) == {"weight": "complex128", "z": "complex128", "n": "int32"}
    module = nn.Linear(1, 1, bias=False)
    module.n = nn.Buffer(np.ones(1, "int32"))
    assert all_dtypes(module.type("float64")) == {"weight": "float64", "n": "float64"}
    weight = module.weight.data
    assert module.cpu() is module and module.to(np, "cpu", False, non_blocking=True).weight.data is weight
    with pytest.raises(TypeError, match=r"Module.to takes floating and complex dtypes, not int32"):
        module.to("int32")
    with pytest.raises(TypeError, match="numpy has no dtype 'bfloat17'"):  # 16 it has where another package brings it
        backend_of_namespace(np).dtype("bfloat17")
    for name in ("cuda", "xpu", "mtia", "ipu"):
        with pytest.raises(NotImplementedError, match=rf"Module.{name}\(\): a device belongs to an array library. Write module.to\(cupy\)"):
            getattr(module, name)()
    with pytest.raises(NotImplementedError, match=r"Module.share_memory\(\): parameters here do not stay in one place"):
        module.share_memory()
    with pytest.raises(NotImplementedError, match=r"Module.compile\(\): a module alone is not compiled.*agnostic_ad.compile"):
        module.compile()


def test_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    assert all_dtypes(nn.Linear(1, 1).to(torch).bfloat16()) == {"weight": "bfloat16", "bias": "bfloat16"}


def test_where_an_array_is(backend: support.Backend) -> None:
    module = nn.Linear(1, 1)
    like = backend.asarray(1.0)
    for array in (like, ad.Variable(like)):
        assert kind(module.to(np, "float32").to(array).weight.data) == kind(like)
    module(backend.asarray(np.ones((1, 1)))).sum().backward()
    grad = module.weight.grad
    empty = module.to_empty(device="cpu" if backend.name != "cupy" else "cuda").weight
    assert kind(empty.data) == kind(like) and empty.shape == (1, 1) and isinstance(empty, nn.Parameter) and empty.grad is not grad


def test_apply_reaches_overrides() -> None:
    class Caches(nn.Linear):
        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            self.moved = True
            return super()._apply(fn, recurse)

    net = nn.Sequential(Caches(1, 1)).double()
    assert net[0].moved and net[0].weight.dtype == np.float64


# --- the optimizers' memory -------------------------------------------------------------------------------------------------------------------
def train(layer: nn.Module, optimizers: list[Any], x: Any) -> None:
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (layer(x) ** 2).sum().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("change", ["to", "load", "assign", "freeze", "copy"])
def test_optimizers_go_on(change: str) -> None:
    """Whatever moves parameters, an optimizer that has them in one piece of memory goes on as one that updates each alone."""
    results = []
    for together in (True, False):
        ad.manual_seed(0)
        x = np.ones((2, 3))
        layer = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
        groups = [layer.parameters()] if together else [[p] for p in layer.parameters()]
        optimizers = [nn.optim.Adam(group, lr=0.1) for group in groups]
        train(layer, optimizers, x)
        state = {name: np.ones_like(value) for name, value in layer.state_dict().items()}
        if change == "to":
            layer.float()
            x = x.astype("float32")
        elif change == "load":
            layer.load_state_dict(state)
        elif change == "assign":
            layer.load_state_dict(state, assign=True)
        elif change == "freeze":
            layer[0].requires_grad_(False)
            train(layer, optimizers, x)
            layer[0].requires_grad_()
        else:
            layer.load_state_dict(copy.deepcopy(layer).state_dict())
        train(layer, optimizers, x)
        assert all((value == 1).all() for value in state.values())  # what was given is not changed
        results.append([p.data for p in layer.parameters()])
    for one, other in zip(*results, strict=True):
        assert one.dtype == (np.float32 if change == "to" else np.float64)
        np.testing.assert_allclose(one, other, rtol=1e-6 if change == "to" else 1e-12)  # float32 rounds
