"""Recurrent layers and cells: what PyTorch's list of modules does not have; and NumPy's own forms beside the general ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.backends.base import Backend
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.utils import rnn as packing
from agnostic_ad.op import TABLE


def flat(result: Any) -> list[Any]:
    output, hx = result
    return [output.data if hasattr(output, "batch_sizes") else output, *(hx if isinstance(hx, tuple) else (hx,))]


def assert_like_torch(name: str, options: dict[str, Any], shape: Any, hx: bool, rng: np.random.Generator, lengths: Any = None) -> None:
    """Compare results, and the gradients of the input, the initial states and all parameters."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(3, 4, **options, dtype=torch.float64)
    ours = getattr(nn, name)(3, 4, **options, dtype="float64")
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    batch = () if len(shape) == 2 else (shape[0] if options.get("batch_first") else shape[1],)
    rows = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    sizes = [options.get("proj_size", 0) or 4, 4] if name == "LSTM" else [4]
    arrays = [rng.normal(size=shape), *([rng.normal(size=(rows, *batch, n)) for n in sizes] if hx else [])]
    v, t = [ad.Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]

    def call(layer: Any, xs: list[Any], pack: Any) -> list[Any]:
        x, *states = xs
        if lengths is not None:
            first = options.get("batch_first", False)
            x = pack(x, lengths, batch_first=first, enforce_sorted=list(lengths) == sorted(lengths, reverse=True))
        given = [tuple(states) if name == "LSTM" else states[0]] if states else []
        return flat(layer(x, *given))

    results = call(ours, v, packing.pack_padded_sequence), call(theirs, t, torch.nn.utils.rnn.pack_padded_sequence)
    total: Any = 0.0
    for y, z in zip(*results, strict=True):
        assert_close(y, z.detach().numpy(), 1e-12, 1e-12)
        ct = rng.normal(size=y.shape)
        total = (y * ct).sum() + total
        z.backward(torch.tensor(ct), retain_graph=True)
    total.backward()
    for a, b in zip([*v, *ours.parameters()], [*t, *theirs.parameters()], strict=True):
        assert_close(a.grad, b.grad.numpy(), 1e-11, 1e-11)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "batch_first": True, "bias": False},
    {"bidirectional": True, "batch_first": True},
]


@pytest.mark.parametrize("hx", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
class TestBesideTorch:
    def test_batches(self, rng: np.random.Generator, name: str, options: Any, hx: bool) -> None:
        assert_like_torch(name, options, (5, 2, 3), hx, rng)

    def test_one_sequence(self, rng: np.random.Generator, name: str, options: Any, hx: bool) -> None:
        assert_like_torch(name, options, (5, 3), hx, rng)

    @pytest.mark.parametrize("lengths", [[4, 2, 1], [2, 4, 3], [4, 4, 4]], ids=str)
    def test_packed(self, rng: np.random.Generator, name: str, options: Any, hx: bool, lengths: Any) -> None:
        assert_like_torch(name, options, (3, 4, 3) if options.get("batch_first") else (4, 3, 3), hx, rng, lengths)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_projections(rng: np.random.Generator, options: Any) -> None:
    assert_like_torch("LSTM", {**options, "proj_size": 2}, (3, 4, 3), True, rng)
    assert_like_torch("LSTM", {**options, "proj_size": 2}, (3, 3, 3), True, rng, [2, 3, 1])


def test_relu(rng: np.random.Generator) -> None:
    assert_like_torch("RNN", {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}, (3, 4, 3), True, rng)


def test_what_lies_behind_the_ends_of_packed_sequences_does_not_matter(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 2, 3))
    x[2:, 1] = np.nan
    v = ad.Variable(x)
    layer = nn.GRU(3, 2, bidirectional=True, dtype="float64")
    output, h = layer(packing.pack_padded_sequence(v, [4, 2]))
    (output.data.sum() + h.sum()).backward()
    assert np.all(np.isfinite(output.data.data)) and np.all(np.isfinite(v.grad)) and np.all(v.grad[2:, 1] == 0)


# --- steps ------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_cells_take_the_steps_of_layers(backend: support.Backend, rng: np.random.Generator, kind: str) -> None:
    with ad.defaults(xp=backend.xp, dtype="float64"):
        layer, cell = getattr(nn, kind)(3, 4), getattr(nn, f"{kind}Cell")(3, 4)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    x = rng.normal(size=(5, 2, 3))
    a, b = ad.Variable(backend.asarray(x)), ad.Variable(backend.asarray(x))
    output, _ = layer(a)
    state, hidden = None, []
    for t in range(5):
        state = cell(b[t, ...], state)
        hidden.append(state[0] if kind == "LSTM" else state)
    ct = rng.normal(size=(5, 2, 4))
    total: Any = 0.0
    for t in range(5):
        assert_close(backend.numpy(hidden[t].data), backend.numpy(output.data)[t], 1e-12, 1e-12)
        total = (hidden[t] * backend.asarray(ct[t])).sum() + total
    total.backward()
    output.backward(backend.asarray(ct))
    for p, q in zip([a, *layer.parameters()], [b, *cell.parameters()], strict=True):
        assert_close(backend.numpy(p.grad), backend.numpy(q.grad), 1e-11, 1e-11)


def test_derivatives_of_derivatives(rng: np.random.Generator) -> None:
    x, h = rng.normal(size=(3, 2, 3)), rng.normal(size=(2, 2, 2))
    for name in ("RNN", "GRU", "LSTM"):
        layer = getattr(nn, name)(3, 2, bidirectional=True, dtype="float64")

        def f(state: Any, x: Any, h: Any, layer: Any = layer, name: str = name) -> Any:
            return flat(nn.functional_call(layer, state, (x, (h, h) if name == "LSTM" else h)))

        ad.check_grads(f, (layer.state_dict(), x, h), order=2)


@pytest.mark.parametrize("steps", [None, 3])
@pytest.mark.parametrize(("name", "gates", "states"), [("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)])
def test_tangents_of_one_operand_alone(rng: np.random.Generator, name: str, gates: int, states: int, steps: Any) -> None:
    shapes = [(2, 3) if steps is None else (steps, 2, 3), *[(2, 4)] * states, (gates * 4, 3), (gates * 4, 4), (gates * 4,), (gates * 4,)]
    operands = [rng.normal(size=shape) for shape in shapes]
    op = TABLE[f"nn.{name}"]
    for i, x in enumerate(operands):

        def f(moving: Any, i: int = i) -> Any:
            found = op(*operands[:i], moving, *operands[i + 1 :])
            return tuple(found) if isinstance(found, tuple) else (found,)

        tangent = rng.normal(size=x.shape)
        value, moved = ad.jvp(f, (x,), (tangent,))
        cts = tuple(rng.normal(size=y.shape) for y in value)
        (pulled,) = ad.vjp(f, x)[1](cts)
        assert_close(sum(np.sum(ct * t) for ct, t in zip(cts, moved, strict=True)), np.sum(pulled * tangent), 1e-11, 1e-11)


def test_batches_of_batches_and_of_weights(rng: np.random.Generator) -> None:
    layer = nn.LSTM(3, 2, bidirectional=True, dtype="float64")
    x = rng.normal(size=(4, 3, 2, 3))
    for found, each in zip(ad.vmap(lambda a: flat(layer(a)))(x), zip(*(flat(layer(a)) for a in x), strict=True), strict=True):
        assert_close(found, np.stack([y.data for y in each]), 1e-12, 1e-12)
    models = [nn.GRU(3, 2, dtype="float64") for _ in range(4)]
    states = {key: np.stack([m.state_dict()[key] for m in models]) for key in models[0].state_dict()}

    def loss(state: Any, a: Any) -> Any:
        output, _ = nn.functional_call(models[0], state, (a,))
        return (output * output).sum()

    grads = ad.vmap(ad.grad(loss))(states, x)
    for i, model in enumerate(models):
        output, _ = model(x[i])
        (output * output).sum().backward()
        for key, p in model.named_parameters():
            assert_close(grads[key][i], p.grad, 1e-11, 1e-12)


# --- settings ---------------------------------------------------------------------------------------------------------------------------
def test_dropout_between_layers(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 2, 3))
    layer = nn.LSTM(3, 5, 2, dropout=0.5, dtype="float64")
    first = [ad.manual_seed(seed) and layer(x)[0].data for seed in (0, 0, 1)]
    assert_exact(first[0], first[1])
    assert not np.allclose(first[0], first[2])
    assert_exact(layer.eval()(x)[0].data, layer(x)[0].data)
    everything = nn.GRU(3, 5, 2, dropout=1.0, bias=False, dtype="float64")
    assert np.all(everything(x)[0].data == 0)  # the second layer sees zeros
    with pytest.warns(UserWarning, match=r"LSTM: dropout is between layers, and there is one alone: dropout=0.2 does nothing"):
        nn.LSTM(3, 2, dropout=0.2)


def test_autocast_takes_inputs_of_sixteen_bits(rng: np.random.Generator) -> None:
    x, layer, cell = rng.normal(size=(4, 2, 3)), nn.LSTM(3, 5), nn.GRUCell(3, 5)
    with nn.amp.autocast(dtype="float16"):
        output, h = layer(x.astype("float16"))[0], cell(x[0].astype("float16"))
    assert output.dtype == h.dtype == np.float16
    # a rounding to half precision of numbers below one, in each of four steps
    assert_close(output.data, layer(x.astype("float32"))[0].data, 0, 4e-3)
    output.sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype("float32")}


def test_parameters() -> None:
    layer = nn.LSTM(300, 400, 2, bidirectional=True, proj_size=3)
    assert {p.dtype for p in layer.parameters()} == {np.dtype("float32")}
    for p in layer.parameters():
        assert 0.99 * 400**-0.5 < np.abs(p.data).max() <= 400**-0.5
    assert [len(group) for group in layer.all_weights] == [5, 5, 5, 5]
    assert layer.all_weights[3][4] is layer.weight_hr_l1_reverse
    assert layer.flatten_parameters() is None


# --- NumPy's own forms ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [None, 1, 2, 7])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("name", "gates", "states"), [("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)])
@pytest.mark.parametrize("options", [{}, {"relu": True}], ids=str)
def test_numpy_forms(rng: np.random.Generator, name: str, gates: int, states: int, options: Any, reverse: bool, steps: Any) -> None:
    if options and name != "rnn":
        return
    options = {**options, "reverse": reverse}
    shape = (2, 3) if steps is None else (steps, 2, 3)
    x, carried = np.repeat(rng.normal(size=shape), 2, axis=-1)[..., ::2], [rng.normal(size=(2, 4)) for _ in range(states)]
    weights = [rng.normal(size=s) for s in ((gates * 4, 3), (gates * 4, 4), (gates * 4,), (gates * 4,))]
    backend = backend_of(x)

    def both(what: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        found = getattr(backend.nn, what)(*args, **kwargs)
        general = Backend.fallbacks[f"nn.{what}"](backend, *args, **kwargs)
        found, general = (y if isinstance(y, tuple) else (y,) for y in (found, general))
        assert len(found) == len(general)
        for a, b in zip(found, general, strict=True):
            assert_close(a, b, 1e-12, 1e-12)
        return found, general

    found, _ = both(name, x, *carried, *weights, **options)
    both(name, x, *carried, *weights[:2], None, weights[3], **options)
    narrow = getattr(backend.nn, name)(*(a.astype("float32") for a in (x, *carried, *weights)), **options)
    assert {y.dtype for y in (narrow if isinstance(narrow, tuple) else (narrow,))} == {np.dtype("float32")}
    wanted = ("x", *("h", "c")[:states], "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cts = [rng.normal(size=y.shape) for y in found]
    for count in range(1, len(cts) + 1):  # all, and some
        given = [ct if i < count else None for i, ct in enumerate(cts)]
        both(f"{name}_pull", *given, x, *carried, *found, *weights[:2], **options, wanted=wanted)
        both(f"{name}_pull", *given, x, *carried, *found, *weights[:2], **options, wanted=("weight_hh", "bias_ih"))


# --- errors -----------------------------------------------------------------------------------------------------------------------------
X = np.ones((5, 2, 3), "float32")
STATE = np.ones((1, 2, 4), "float32")
ERRORS: list[tuple[Any, str]] = [
    (lambda: nn.LSTM(3, 4)(X[0, 0]), "LSTM: Expected input to be 2D or 3D, got 1D instead"),
    (lambda: nn.LSTM(2, 4)(X), "LSTM: input.size(-1) must be equal to input_size. Expected 2, got 3"),
    (lambda: nn.GRU(3, 4)(X.astype("float64")), "GRU: input dtype (float64) does not match weight dtype (float32). Convert the input, or the layer"),
    (lambda: nn.GRU(3, 4)(X, STATE[0]), "GRU: For batched 3-D input, hx should also be 3-D but got 2-D hidden"),
    (lambda: nn.GRU(3, 4)(X[:, 0], STATE), "GRU: For unbatched 2-D input, hx should also be 2-D but got 3-D hidden"),
    (lambda: nn.GRU(3, 4)(X, STATE[:, :1]), "GRU: Expected hidden size (1, 2, 4), got (1, 1, 4)"),
    (lambda: nn.LSTM(3, 4)(X, (STATE, STATE[:, :, :2])), "LSTM: Expected hidden[1] size (1, 2, 4), got (1, 2, 2)"),
    (lambda: nn.LSTM(3, 4)(X, (STATE,)), "LSTM: hx is a pair of a hidden and a cell state; 1 came"),
    (lambda: nn.LSTM(3, 4)(X[:0]), "lstm: a sequence of no steps has no last state"),
    (lambda: nn.RNN(3, 4)(packing.PackedSequence(X, np.asarray([1]))), "RNN: packed data of shape (rows, 3) is wanted, not (5, 2, 3)"),
    (lambda: nn.RNN(3, 4, nonlinearity="elu"), "Unknown nonlinearity 'elu'. Select from 'tanh' or 'relu'."),
    (lambda: nn.RNNBase("SRU", 3, 4), "RNNBase: mode is one of LSTM, GRU, RNN_TANH, RNN_RELU, not 'SRU'"),
    (lambda: nn.RNNBase("GRU", 3, 4, proj_size=2), "proj_size argument is only supported for LSTM, not RNN or GRU"),
    (lambda: nn.LSTM(3, 4, proj_size=4), "LSTM: proj_size has to be smaller than hidden_size (4), and 0 for no projections, not 4"),
    (lambda: nn.LSTM(3.0, 4), "LSTM: input_size should be of type int, got: float"),
    (lambda: nn.LSTM(3, 0), "LSTM: hidden_size must be greater than zero, not 0"),
    (lambda: nn.GRU(3, 4, 1, 1), "GRU: bias should be of type bool, got: int"),
    (lambda: nn.GRU(3, 4, 2, dropout=1.5), "GRU: dropout should be a number in range [0, 1], the probability of an element being zeroed, not 1.5"),
    (lambda: nn.LSTMCell(3, 4)(X), "LSTMCell: Expected input to be 1D or 2D, got 3D instead"),
    (lambda: nn.GRUCell(2, 4)(X[0]), "GRUCell: input has inconsistent input_size: got 3 expected 2"),
    (lambda: nn.RNNCell(3, 4)(X[0], STATE[0, 0]), "RNNCell: Expected hidden of shape (2, 4), got (4,)"),
    (lambda: nn.LSTMCell(3, 4)(X[0], (STATE[0], STATE[0, :1])), "LSTMCell: Expected hx[1] of shape (2, 4), got (1, 4)"),
    (lambda: nn.LSTMCell(3, 4)(X[0], STATE), "LSTMCell: hx is a pair of a hidden and a cell state; 1 came"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), ERRORS, ids=[text[:50] for _, text in ERRORS])
def test_errors(call: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert text in str(caught.value)
