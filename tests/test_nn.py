"""Modules: registration, walking, state, moving, copying, text."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.tied = self.first
        self.scale = nn.Parameter(np.ones(4, "float32"))
        self.register_buffer("mean", np.zeros(4, "float32"))
        self.seen = nn.Buffer(np.zeros((), "int64"), persistent=False)
        self.nothing = None

    def forward(self, x: Any) -> Any:
        return self.tied(x) * self.scale - self.mean


def test_what_is_registered() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias"]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)][-1] == "tied.bias"
    assert [n for n, _ in net.named_buffers()] == ["mean", "seen"]
    assert [n for n, _ in net.named_modules()] == ["", "first"]
    assert [n for n, _ in net.named_children()] == ["first"]
    assert list(net.children()) == [net.first] and list(net.modules()) == [net, net.first]
    assert list(net.state_dict()) == ["scale", "mean", "first.weight", "first.bias", "tied.weight", "tied.bias"]
    assert {type(x) for x in net.state_dict().values()} == {np.ndarray}
    assert next(iter(net.state_dict(prefix="model.", keep_vars=True).values())) is net.scale
    assert net.get_parameter("first.weight") is net.first.weight and net.get_buffer("mean") is net.mean
    assert net.get_submodule("first") is net.first and "scale" in dir(net)
    del net.scale
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'scale'"):
        _ = net.scale


def test_parameters_are_variables_of_the_quick_path() -> None:
    p, plain = nn.Parameter([1.0, 2.0]), ad.Variable([1.0])
    assert isinstance(p, nn.Parameter) and isinstance(p, ad.Variable) and type(p) is ad.Variable
    assert not isinstance(plain, nn.Parameter) and not isinstance(p, nn.Buffer) and not isinstance(p * 1, nn.Parameter)
    assert p.dtype == np.float32 and p.requires_grad and not nn.Parameter(np.ones(2), requires_grad=False).requires_grad
    assert not nn.Buffer(np.ones(2)).requires_grad
    with pytest.raises(TypeError, match="only floating and complex arrays"):
        nn.Parameter(np.arange(3))


def test_what_cannot_be_registered() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.p = nn.Parameter([1.0])

    class Never(nn.Module):
        def __init__(self) -> None:
            self.size = 3

        def forward(self, x: Any) -> Any:
            return x

    for use in (
        lambda: Never()(1),
        lambda: Never().register_buffer("b", None),
        lambda: Never().register_parameter("p", None),
        Never().state_dict,
    ):
        with pytest.raises(AttributeError, match=r"Never: call super\(\).__init__\(\) before anything else"):
            use()
    net = Net()
    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) before assigning 'p'"):
        Early()
    with pytest.raises(TypeError, match=r"'scale' is a parameter: assign an nn.Parameter or None, not ndarray"):
        net.scale = np.ones(4)
    with pytest.raises(TypeError, match="'first' is a module"):
        net.first = 3
    with pytest.raises(TypeError, match=r"Wrap it: nn.Parameter\(x\)"):
        net.register_parameter("w", ad.Variable([1.0]))
    with pytest.raises(KeyError, match="without dots"):
        net.register_buffer("a.b", None)
    with pytest.raises(KeyError, match="attribute 'first' exists already"):
        net.register_parameter("first", None)
    with pytest.raises(TypeError, match=r"an nn.Module or None is wanted, not int"):
        nn.Sequential(3)
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\)"):
        nn.Module()(1)


def test_assignment_replaces() -> None:
    net = Net()
    net.mean = np.ones(4, "float32")
    assert isinstance(net.mean, ad.Variable) and "mean" in net.state_dict()
    net.first = nn.Parameter([1.0])
    assert "first" in dict(net.named_parameters()) and "first" not in dict(net.named_children())
    net.scale = None
    assert net.scale is None and "scale" not in net.state_dict()


def test_modes_and_gradients() -> None:
    net = Net()
    assert net.training and not net.eval().first.training and net.train().first.training
    net(np.ones((2, 3), "float32")).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert not net.scale.grad.any()
    net.zero_grad()
    assert net.scale.grad is None
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    assert not net(np.ones((2, 3), "float32")).requires_grad
    assert net.scale.requires_grad_() is net.scale and net.scale.requires_grad and not net.scale.requires_grad_(False).requires_grad
    assert sum(p.numel() for p in net.parameters()) == 4 + 12 + 4
    seen: list[nn.Module] = []
    assert net.apply(seen.append) is net and seen == [net.first, net]


def test_hooks() -> None:
    layer = nn.ReLU()
    with layer.register_forward_pre_hook(lambda module, args: (args[0] - 1,)):
        handle = layer.register_forward_hook(lambda module, args, result: result * 10)
        assert layer(np.asarray([0.0, 3.0])).tolist() == [0.0, 20.0]
    handle.remove()
    handle.remove()
    assert layer(np.asarray([0.0, 3.0])).tolist() == [0.0, 3.0]


def test_copies_and_pickles() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), Net())
    x = np.ones((1, 1, 5, 5), "float32")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(isinstance(p, nn.Parameter) for p in other.parameters())
        assert all(isinstance(b, nn.Buffer) for b in other.buffers())
        assert other[2].tied is other[2].first
        np.testing.assert_array_equal(other[0](x).data, net[0](x).data)
        ad.nn.optim.SGD(other.parameters(), lr=1).zero_grad()
        other[0].weight.grad = np.ones((2, 1, 3, 3), "float32")
        nn.optim.SGD(other.parameters(), lr=1).step()
        assert not np.allclose(other[0].weight.data, net[0].weight.data)


def test_load_state_dict() -> None:
    net, state = Net(), Net().state_dict()
    assert net.load_state_dict(state) == ([], [])
    np.testing.assert_array_equal(net.first.weight.data, state["first.weight"])
    assert net.first.weight.data is not state["first.weight"]
    found = net.load_state_dict({"scale": np.zeros(4), "more": np.zeros(1)}, strict=False)
    assert found.unexpected_keys == ["more"] and "first.weight" in found.missing_keys
    assert net.scale.data.tolist() == [0] * 4 and net.scale.dtype == np.float32
    with pytest.raises(RuntimeError, match=r"Net cannot load this state: missing: mean, first.weight.*; unexpected: more"):
        net.load_state_dict({"scale": np.zeros(4), "more": np.zeros(1)})
    with pytest.raises(ValueError, match=r"scale has shape \(3,\) in the state, \(4,\) in the module"):
        net.load_state_dict({**state, "scale": np.zeros(3)})


def test_moving(backend: support.Backend) -> None:
    ad.manual_seed(0)
    net = Net()
    net(np.ones((2, 3), "float32")).sum().backward()
    x = np.ones((2, 3), "float32")
    before = net(x).data
    scale = net.scale
    assert net.to(backend.xp) is net and net.scale is scale
    kind = type(backend.asarray(1.0))
    assert all(type(v.data) is kind for v in (*net.parameters(), *net.buffers())) and type(net.scale.grad) is kind
    np.testing.assert_allclose(backend.numpy(net(backend.asarray(x)).data), before, rtol=1e-6, atol=1e-6)  # single precision
    net.to("cpu" if backend.name != "cupy" else "cuda", dtype="float64")
    assert "float64" in str(net.scale.dtype) and "int64" in str(net.seen.dtype)
    assert "float32" in str(net.float().scale.dtype) and "float64" in str(net.double().scale.dtype)
    assert net.load_state_dict(Net().state_dict()) == ([], [])
    assert type(net.scale.data) is kind
    net.to(np)
    assert type(net.scale.data) is np.ndarray


def test_one_seed_gives_the_same_weights_everywhere(backend: support.Backend) -> None:
    ad.manual_seed(3)
    ours = nn.Linear(5, 4).state_dict()
    ad.manual_seed(3)
    theirs = nn.Linear(5, 4, xp=backend.xp).state_dict()
    for name, x in ours.items():
        assert type(theirs[name]) is type(backend.asarray(1.0))
        np.testing.assert_array_equal(x, backend.numpy(theirs[name]))
    with ad.defaults(xp=backend.xp, dtype="float64"):
        assert "float64" in str(nn.Conv2d(1, 1, 1).weight.dtype)


def test_sequential() -> None:
    net = nn.Sequential({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    assert net.b is net[1] is net[-1] and len(net) == 2 and list(net) == [net.a, net.b]
    assert isinstance(net[:1], nn.Sequential) and net[:1][0] is net.a
    net = nn.Sequential(nn.ReLU()).append(nn.Flatten()).extend([nn.ReLU()]).insert(0, nn.Linear(2, 2))
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Flatten", "ReLU"] and list(net._modules) == list("0123")
    del net[1]
    assert [type(m).__name__ for m in net] == ["Linear", "Flatten", "ReLU"] and list(net._modules) == list("012")
    net[0] = nn.ReLU()
    assert type(net[0]) is nn.ReLU
    with pytest.raises(IndexError, match="index 3 is out of range for a length of 3"):
        net[3]


def test_raw_arrays_stay_raw_where_nothing_is_recorded(backend: support.Backend) -> None:
    x = backend.asarray([[-1.0, 2.0]])
    for layer in (nn.ReLU(), nn.Flatten()):
        assert type(layer(x)) is type(x)
    assert type(nn.CrossEntropyLoss()(x, backend.asarray([1]))) is type(x)
    assert isinstance(nn.Linear(2, 2, xp=backend.xp, dtype="float64")(x), ad.Variable)
    assert isinstance(nn.CrossEntropyLoss()(ad.Variable(x), ad.Variable(backend.asarray([1]))), ad.Variable)


def test_layers_inside_transformations(backend: support.Backend, rng: np.random.Generator) -> None:
    """Per-sample gradients by vmap of grad are those that grad gives sample by sample."""
    with ad.defaults(xp=backend.xp, dtype="float64"):
        conv = nn.Conv2d(2, 3, 3, padding=1)
    w, b = conv.weight.detach().data, conv.bias.detach().data
    xs, ys = rng.normal(size=(3, 1, 2, 4, 4)), np.asarray([[0], [2], [1]])

    def loss(w: Any, b: Any, x: Any, y: Any) -> Any:
        h = nn.functional.max_pool2d(nn.functional.relu(nn.functional.conv2d(x, w, b, padding=1)), 4)
        return nn.functional.cross_entropy(nn.functional.flatten(h, 1), y)

    g = ad.vmap(ad.grad(loss, argnums=(0, 1)), in_axes=(None, None, 0, 0))(w, b, backend.asarray(xs), backend.asarray(ys))
    for i in range(3):
        one = ad.grad(loss, argnums=(0, 1))(w, b, backend.asarray(xs[i]), backend.asarray(ys[i]))
        for many, single in zip(g, one, strict=True):
            np.testing.assert_allclose(backend.numpy(many)[i], backend.numpy(single), rtol=1e-10, atol=1e-12)


def test_what_layers_refuse(rng: np.random.Generator) -> None:
    F = nn.functional
    x = rng.normal(size=(2, 3, 4, 4))
    for call, text in [
        (lambda: F.linear(x, np.ones((2, 5))), r"an input of shape \(2, 3, 4, 4\) does not fit a weight of shape \(2, 5\)"),
        (lambda: F.conv2d(x, np.ones((2, 2, 3, 3))), r"with 3 channels does not fit a weight of shape \(2, 2, 3, 3\)"),
        (
            lambda: F.conv2d(x, np.ones((2, 3, 5, 5))),
            r"a window of size \(5, 5\) with dilation \(1, 1\) does not fit an input of size \(4, 4\)",
        ),
        (
            lambda: F.conv2d(x[0, 0], np.ones((2, 3, 3, 3))),
            r"conv2d takes an input of shape \(N, C, H, W\) or \(C, H, W\), not of shape \(4, 4\)",
        ),
        (lambda: F.conv2d(x, np.ones((2, 3, 3))), "should have 4 dimensions"),
        (lambda: F.conv2d(x, np.ones((2, 3, 3, 3)), padding="same", stride=2), "padding='same' needs a stride of 1"),
        (lambda: F.conv2d(x, np.ones((2, 3, 3, 3)), padding="full"), "padding is 'valid', 'same' or numbers; got 'full'"),
        (lambda: F.conv2d(x, np.ones((2, 3, 3, 3)), stride=0), "stride is an integer of 1 or more, or 2 of them; got 0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups=2 must divide in_channels=3 and out_channels=4"),
        (lambda: F.max_pool2d(x, 5), "does not fit an input"),
        (lambda: F.max_pool2d(x, 2, padding=2), r"padding \(2, 2\) is more than half of the window \(2, 2\)"),
        (
            lambda: F.cross_entropy(x, np.zeros((2, 4), int)),
            r"class indices for scores of shape \(2, 3, 4, 4\) have shape \(2, 4, 4\), not \(2, 4\)",
        ),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.asarray([1, 3])), "target 3 is out of bounds for 3 classes"),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.asarray([1, -1])), "target -1 is out of bounds for 3 classes"),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.asarray([1.0, 2.0])), "class indices are integers, not float64"),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.asarray([1, 2]), weight=np.ones(2)), "one number for each of 3 classes"),
        (lambda: F.cross_entropy(np.ones((2, 3)), np.asarray([1, 2]), reduction="max"), "'max' is not a valid value for reduction"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=2.0)(np.ones((2, 3)), np.asarray([1, 2])), "label_smoothing lies between 0 and 1"),
        (lambda: F.flatten(x, 2, 1), "start_dim 2 comes after end_dim 1"),
        (lambda: nn.init.zeros_([1.0]), "init works in place on parameters"),
        (lambda: nn.init.calculate_gain("gelu"), "not 'gelu'"),
        (lambda: nn.init.xavier_uniform_(nn.Parameter([1.0])), "a weight of 2 dimensions or more"),
    ]:
        with pytest.raises((ValueError, TypeError, IndexError), match=text):
            call()


def test_init(rng: np.random.Generator) -> None:
    p = nn.Parameter(np.zeros((200, 100)))
    assert nn.init.constant_(p, 2.5) is p and (p.data == 2.5).all()
    assert (nn.init.ones_(p).data == 1).all() and (nn.init.zeros_(p).data == 0).all()
    for init, low, high, std in [
        (lambda: nn.init.uniform_(p, 1, 3), 1, 3, 2 / 12**0.5),
        (lambda: nn.init.xavier_uniform_(p, 2.0), -2 * 0.02**0.5, 2 * 0.02**0.5, 2 * (2 / 300) ** 0.5),
        (lambda: nn.init.kaiming_uniform_(p, nonlinearity="relu"), -(0.06**0.5), 0.06**0.5, 0.02**0.5),
        (lambda: nn.init.kaiming_normal_(p, mode="fan_out", nonlinearity="relu"), -1, 1, 0.01**0.5),
        (lambda: nn.init.xavier_normal_(p), -1, 1, (2 / 300) ** 0.5),
        (lambda: nn.init.normal_(p, 0, 0.1, ad.Generator(0)), -1, 1, 0.1),
    ]:
        x = init().data
        assert low <= x.min() and x.max() <= high
        assert x.std() == pytest.approx(std, rel=0.03)


def test_files(tmp_path: Path, backend: support.Backend) -> None:
    net = Net().to(backend.xp)
    net.scale.data = backend.asarray(np.arange(8.0)[::2], "float32")
    nn.save_file(net, tmp_path / "a.safetensors")
    found = nn.load_file(tmp_path / "a.safetensors")
    assert found["scale"].tolist() == [0, 2, 4, 6] and found["scale"].dtype == np.float32
    assert type(nn.load_file(tmp_path / "a.safetensors", xp=backend.xp)["scale"]) is type(backend.asarray(1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    transposed = {"x": np.arange(6.0).reshape(2, 3).T, "n": np.asarray(True)}
    nn.save_file(transposed, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(nn.load_file(tmp_path / "a.safetensors")["x"], transposed["x"])


def test_files_that_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'z' has dtype complex128, which is not kept"):
        nn.save_file({"z": np.ones(2) * 1j}, tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        nn.load_file(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="a is no safetensors file, or is damaged"):
        nn.load_file(tmp_path / "a")
