"""nn.utils beside torch: clipping, vectors, fusing, packed sequences, pruning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.utils import prune, rnn

torch = pytest.importorskip("torch")
T = torch.nn.utils


def pair(backend: support.Backend, rng: np.random.Generator, shapes: Any = ((3, 4), (5,), ()), scale: float = 1.0) -> Any:
    """The same parameters and gradients here and in torch."""
    ours, theirs = [], []
    for shape in shapes:
        value, grad = rng.normal(size=shape), scale * rng.normal(size=shape)
        ours.append(nn.Parameter(backend.asarray(value)))
        ours[-1].grad = backend.asarray(grad)
        theirs.append(torch.nn.Parameter(torch.tensor(value)))
        theirs[-1].grad = torch.tensor(grad)
    return ours, theirs


# --- clipping -----------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf, 0.5, "inf"])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clip_grad_norm(backend: support.Backend, rng: np.random.Generator, norm_type: Any, max_norm: float) -> None:
    ours, theirs = pair(backend, rng)
    for number in (None, 1):  # then one parameter by itself
        a, b = (ours, theirs) if number is None else (ours[number], theirs[number])
        found = nn.utils.clip_grad_norm_(a, max_norm, norm_type, foreach=False)
        want = T.clip_grad_norm_(b, max_norm, norm_type, foreach=False)
        assert found.shape == () and type(found) is type(backend.asarray(0.0))
        assert_close(backend.numpy(found), want, rtol=1e-12)
        for p, q in zip(ours, theirs, strict=True):
            assert_close(backend.numpy(p.grad), q.grad, rtol=1e-12, atol=0)


def test_clip_grad_value(backend: support.Backend, rng: np.random.Generator) -> None:
    ours, theirs = pair(backend, rng)
    nn.utils.clip_grad_value_(ours, 0.3)
    T.clip_grad_value_(theirs, 0.3)
    for p, q in zip(ours, theirs, strict=True):
        assert_exact(backend.numpy(p.grad), q.grad)


def test_clipping_of_shared_and_missing_gradients() -> None:
    a, b, none = (nn.Parameter(np.ones(3)) for _ in range(3))
    shared = np.full(3, 2.0)
    a.grad = b.grad = shared
    total = nn.utils.clip_grad_norm_([a, b, none], 1.0)
    assert_close(total, math.sqrt(24))
    assert_close(a.grad, 2 / math.sqrt(24) * np.ones(3), rtol=1e-6)  # torch's own 1e-6 in the divisor
    assert none.grad is None and shared.tolist() == [2, 2, 2] and b.grad.tolist() == a.grad.tolist()
    assert float(nn.utils.clip_grad_norm_([none], 1.0)) == 0.0


def test_dtypes_of_norms(rng: np.random.Generator) -> None:
    p, q = nn.Parameter(np.zeros(3, "float32")), nn.Parameter(np.zeros(2, "float16"))
    p.grad, q.grad = np.full(3, 3, "float32"), np.full(2, 600, "float16")  # whose square is beyond float16
    total = nn.utils.clip_grad_norm_([p, q], 10.0)
    assert total.dtype == np.float32
    assert_close(total, math.sqrt(27 + 2 * 360000), rtol=1e-6)
    assert p.grad.dtype == np.float32 and q.grad.dtype == np.float16
    z = nn.Parameter(np.zeros(2, "complex128"))
    z.grad = np.asarray([3 + 4j, 0])
    assert float(nn.utils.clip_grad_norm_(z, 1.0)) == 5.0
    assert_close(z.grad, [0.6 + 0.8j, 0], rtol=1e-6)


def test_nonfinite_norms() -> None:
    p = nn.Parameter(np.ones(2))
    for bad in (math.nan, math.inf):
        p.grad = np.asarray([bad, 1.0])
        with pytest.raises(RuntimeError, match=r"the total norm of order 2\.0 of the gradients is (nan|inf), so they cannot be clipped"):
            nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
        assert p.grad[1] == 1.0
        with np.errstate(invalid="ignore"):
            nn.utils.clip_grad_norm_([p], 1.0)
        t = torch.ones(2, requires_grad=True, dtype=torch.float64)
        t.grad = torch.tensor([bad, 1.0], dtype=torch.float64)
        T.clip_grad_norm_([t], 1.0)
        np.testing.assert_array_equal(p.grad, t.grad)
    with pytest.raises(TypeError, match="ndarray is no parameter"):
        nn.utils.clip_grad_norm_([np.ones(2)], 1.0)


def test_the_two_halves_of_clipping(rng: np.random.Generator) -> None:
    ours, theirs = pair(support.Backend("numpy"), rng)
    total = nn.utils.get_total_norm([p.grad for p in ours])
    assert_close(total, T.get_total_norm([q.grad for q in theirs]), rtol=1e-12)
    nn.utils.clip_grads_with_norm_(ours, 0.2, 2 * float(total))
    T.clip_grads_with_norm_(theirs, 0.2, 2 * torch.tensor(float(total), dtype=torch.float64))
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p.grad, q.grad, rtol=1e-12)


# --- one vector ---------------------------------------------------------------------------------------------------------------------------
def test_vectors(backend: support.Backend, rng: np.random.Generator) -> None:
    ours, theirs = pair(backend, rng)
    vector, want = nn.utils.parameters_to_vector(ours), T.parameters_to_vector(theirs)
    assert_exact(backend.numpy(vector.data), want.detach())
    weights = rng.normal(size=18)
    vector.backward(backend.asarray(weights))
    want.backward(torch.tensor(weights))
    for p, q in zip(ours, theirs, strict=True):
        assert_exact(backend.numpy(p.grad), q.grad)
    value = backend.asarray(weights)
    nn.utils.vector_to_parameters(value, ours)
    T.vector_to_parameters(torch.tensor(weights), theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert_exact(backend.numpy(p.data), q.detach())
    with pytest.raises(ValueError, match="the parameters have 18 elements, the vector 17"):
        nn.utils.vector_to_parameters(value[:17], ours)
    with pytest.raises(TypeError, match=r"an array of one dimension, not list of shape \(\)"):
        nn.utils.vector_to_parameters([1.0], ours)
    with pytest.raises(ValueError, match="there are no parameters"):
        nn.utils.parameters_to_vector([])


# --- fusing and skipping --------------------------------------------------------------------------------------------------------------------
def settle(layer: Any, bn: Any, x: Any) -> None:
    for _ in range(3):
        bn(layer(x))
    layer.eval()
    bn.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose2d", "Linear"])
def test_fusing(name: str, bias: bool, affine: bool, rng: np.random.Generator) -> None:
    axes = 0 if name == "Linear" else int(name[-2])
    sizes = (3, 4) if name == "Linear" else (3, 4, 2)
    transpose = name.startswith("ConvT")
    with ad.defaults(dtype="float64"):
        layer = getattr(nn, name)(*sizes, bias=bias)
        bn = getattr(nn, f"BatchNorm{axes or 1}d")(4, affine=affine)
    x = rng.normal(size=(5, 3, *(4,) * axes))
    settle(layer, bn, x)
    fused = nn.utils.fuse_linear_bn_eval(layer, bn) if name == "Linear" else nn.utils.fuse_conv_bn_eval(layer, bn, transpose)
    assert type(fused) is type(layer) and fused is not layer and (layer.bias is None) == (not bias)
    assert_close(fused(x).data, bn(layer(x)).data, rtol=1e-12, atol=1e-12)
    assert isinstance(fused.weight, nn.Parameter) and fused.weight.is_leaf and fused.bias.requires_grad
    if name == "Linear" and not affine:
        return  # which torch's function does not take
    theirs = getattr(torch.nn, name)(*sizes, bias=bias).double().eval()
    theirs_bn = getattr(torch.nn, f"BatchNorm{axes or 1}d")(4, affine=affine).double().eval()
    for ours_, theirs_ in ((layer, theirs), (bn, theirs_bn)):
        theirs_.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in ours_.state_dict().items()})
    want = T.fuse_linear_bn_eval(theirs, theirs_bn) if name == "Linear" else T.fuse_conv_bn_eval(theirs, theirs_bn, transpose)
    assert_close(fused.weight.data, want.weight.detach(), rtol=1e-12)
    assert_close(fused.bias.data, want.bias.detach(), rtol=1e-12)


def test_what_fusing_refuses() -> None:
    layer, bn = nn.Linear(2, 3), nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="both layers must be in evaluation mode"):
        nn.utils.fuse_linear_bn_eval(layer, bn)
    with pytest.raises(ValueError, match="has no running statistics"):
        nn.utils.fuse_linear_bn_eval(layer.eval(), nn.BatchNorm1d(3, track_running_stats=False).eval())
    with pytest.raises(ValueError, match="2 features do not fit 3 outputs"):
        nn.utils.fuse_linear_bn_eval(layer, nn.BatchNorm1d(2).eval())


def test_skip_init() -> None:
    state = ad.random.default_generator.get_state()
    layer = nn.utils.skip_init(nn.Conv2d, 2, 3, 1, dtype="float64")
    assert layer.weight.shape == (3, 2, 1, 1) and layer.weight.dtype == np.float64 and isinstance(layer.weight, nn.Parameter)
    assert ad.random.default_generator.get_state() == state  # nothing was drawn
    assert nn.Linear(2, 2).weight.data.any()
    with pytest.raises(TypeError, match="ReLU takes no device"):
        nn.utils.skip_init(nn.ReLU)
    with pytest.raises(TypeError, match=r"skip_init makes an nn\.Module"):
        nn.utils.skip_init(dict)


# --- sequences ----------------------------------------------------------------------------------------------------------------------------
LENGTHS = [[5, 3, 3, 1], [1, 5, 2, 5], [2, 1, 1, 2], [5]]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("rest", [(), (3,), (2, 2)])
def test_packing(backend: support.Backend, rng: np.random.Generator, lengths: list[int], batch_first: bool, rest: Any) -> None:
    shape = (len(lengths), 5) if batch_first else (5, len(lengths))
    value = rng.normal(size=(*shape, *rest))
    ours, theirs = ad.Variable(backend.asarray(value)), torch.tensor(value, requires_grad=True)
    ordered = lengths == sorted(lengths, reverse=True)
    packed = rnn.pack_padded_sequence(ours, lengths, batch_first, enforce_sorted=ordered)
    want = T.rnn.pack_padded_sequence(theirs, lengths, batch_first, enforce_sorted=ordered)
    for name in ("data", "batch_sizes", "sorted_indices", "unsorted_indices"):
        a, b = getattr(packed, name), getattr(want, name)
        if b is None:
            assert a is None
        else:
            np.testing.assert_array_equal(backend.numpy(a.data) if name == "data" else backend.numpy(a) if "ind" in name else a, b.detach())
    padded, found = rnn.pad_packed_sequence(packed, batch_first, padding_value=-1.5, total_length=7)
    theirs_padded, theirs_lengths = T.rnn.pad_packed_sequence(want, batch_first, padding_value=-1.5, total_length=7)
    assert_exact(backend.numpy(padded.data), theirs_padded.detach())
    assert found.tolist() == lengths == theirs_lengths.tolist()
    weights = rng.normal(size=padded.shape)
    padded.backward(backend.asarray(weights))
    theirs_padded.backward(torch.tensor(weights))
    assert_exact(backend.numpy(ours.grad), theirs.grad)
    for a, b in zip(rnn.unpack_sequence(packed), T.rnn.unpack_sequence(want), strict=True):
        assert_exact(backend.numpy(a.data), b.detach())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding(backend: support.Backend, rng: np.random.Generator, batch_first: bool, side: str) -> None:
    values = [rng.normal(size=(n, 2)) for n in (2, 4, 0, 1)]
    ours = [ad.Variable(backend.asarray(v)) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    padded, want = rnn.pad_sequence(ours, batch_first, 7.0, side), T.rnn.pad_sequence(theirs, batch_first, 7.0, side)
    assert_exact(backend.numpy(padded.data), want.detach())
    (padded * padded).sum().backward()
    (want * want).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert_exact(backend.numpy(a.grad), b.grad)
    if side == "right":
        for a, b in zip(rnn.unpad_sequence(padded, backend.asarray(np.asarray([2, 4, 0, 1])), batch_first), values, strict=True):
            assert_exact(backend.numpy(a.data), b)
    assert rnn.pack_sequence(ours[1:2] + ours[:1] + ours[3:]).batch_sizes.tolist() == [3, 2, 1, 1]


def test_packing_of_raw_arrays_integers_and_batches(rng: np.random.Generator) -> None:
    x = rng.integers(0, 9, size=(4, 2))
    packed = rnn.pack_padded_sequence(x, np.asarray([4, 2]))
    assert type(packed.data) is np.ndarray and packed.data.dtype == x.dtype and packed.sorted_indices is None
    assert packed.to("float64").data.dtype == x.dtype and packed.double().batch_sizes is packed.batch_sizes
    assert rnn.pack_padded_sequence(x.astype("float32"), [4, 2]).double().data.dtype == np.float64
    xs = rng.normal(size=(3, 4, 2))

    def loss(x: Any) -> Any:
        padded, _ = rnn.pad_packed_sequence(rnn.pack_padded_sequence(x * x, [2, 4], enforce_sorted=False))
        return padded.sum()

    batched, single = ad.vmap(ad.grad(loss))(xs), np.stack([ad.grad(loss)(x) for x in xs])
    assert_exact(batched, single)
    assert (batched[:, 2:, 0] == 0).all() and (batched[:, :2] != 0).all()
    ad.check_grads(loss, (xs[0],), order=2)


def test_packed_sequence_as_a_tuple() -> None:
    data, sizes, order, back = rnn.PackedSequence(np.arange(3.0), np.asarray([2, 1]), np.asarray([1, 0]))
    assert back.tolist() == [1, 0] and rnn.PackedSequence((data, sizes)).sorted_indices is None
    assert rnn.invert_permutation(np.asarray([2, 0, 1])).tolist() == [1, 2, 0] and rnn.invert_permutation(None) is None


def test_what_packing_refuses() -> None:
    x = np.zeros((5, 3))
    packed = rnn.pack_padded_sequence(x, [2, 1, 1])
    for call, text in [
        (lambda: rnn.pack_padded_sequence(x, [1, 2, 3]), "not in decreasing order. .* enforce_sorted=False"),
        (lambda: rnn.pack_padded_sequence(x, [1, 2]), "2 lengths came for a batch of 3 sequences"),
        (lambda: rnn.pack_padded_sequence(x, [1, 0, 0]), "every length is more than 0, not 0"),
        (lambda: rnn.pack_padded_sequence(x, [6, 1, 1]), "a length of 6 is more than the 5 steps"),
        (lambda: rnn.pack_padded_sequence(x, [1.5, 1, 1]), "lengths are integers, not float64"),
        (lambda: rnn.pack_padded_sequence(x, [[1], [1], [1]]), r"of one dimension, not of shape \(3, 1\)"),
        (lambda: rnn.pack_padded_sequence(x[0], [1, 1, 1]), r"2 dimensions or more is wanted, not of shape \(3,\)"),
        (lambda: rnn.pack_padded_sequence(x[:, :0], []), "an empty batch cannot be packed"),
        (lambda: rnn.pad_packed_sequence(packed, total_length=1), "total_length 1 is less than 2"),
        (lambda: rnn.pad_sequence([]), "an empty list of sequences"),
        (lambda: rnn.pad_sequence([x, x[:, :2]]), r"sequence 1 has shape \(5, 2\)"),
        (lambda: rnn.pad_sequence([x], padding_side="both"), "padding_side is 'right' or 'left', not 'both'"),
        (lambda: rnn.unpad_sequence(x, [1]), "1 lengths came for a batch of 3"),
        (lambda: rnn.PackedSequence(x), "takes data and batch_sizes"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()


# --- pruning ------------------------------------------------------------------------------------------------------------------------------
P = pytest.importorskip("torch.nn.utils.prune")


def layers(rng: np.random.Generator, shape: Any = (6, 5)) -> Any:
    ours, theirs = nn.Linear(shape[1], shape[0], dtype="float64"), torch.nn.Linear(shape[1], shape[0]).double()
    weight, bias = rng.normal(size=shape), rng.normal(size=shape[0])
    ours.load_state_dict({"weight": weight, "bias": bias})
    theirs.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return ours, theirs


def agree(ours: Any, theirs: Any) -> None:
    state = theirs.state_dict()
    assert sorted(ours.state_dict()) == sorted(state)
    for name, x in ours.state_dict().items():
        np.testing.assert_array_equal(x, state[name])
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach())


@pytest.mark.parametrize(
    "do",
    [
        lambda p, m, a: p.identity(m, "weight"),
        lambda p, m, a: p.l1_unstructured(m, "weight", 0.3),
        lambda p, m, a: p.l1_unstructured(m, "weight", 7),
        lambda p, m, a: p.l1_unstructured(m, "weight", 0.5, importance_scores=a((np.arange(30) * 7 % 30 - 14.3).reshape(6, 5))),
        lambda p, m, a: p.ln_structured(m, "weight", 0.4, 2, 0),
        lambda p, m, a: p.ln_structured(m, "weight", 2, math.inf, -1),
        lambda p, m, a: p.ln_structured(m, "weight", 0.0, 1, 1),
        lambda p, m, a: p.custom_from_mask(m, "weight", a(np.arange(30).reshape(6, 5) % 2)),
        lambda p, m, a: p.l1_unstructured(p.l1_unstructured(m, "weight", 0.3), "weight", 0.3),
        lambda p, m, a: p.ln_structured(p.l1_unstructured(m, "weight", 0.3), "weight", 0.5, 1, 0),
        lambda p, m, a: p.l1_unstructured(p.ln_structured(m, "weight", 0.5, 2, 1), "weight", 3),
        lambda p, m, a: p.ln_structured(p.ln_structured(m, "weight", 0.5, 2, 1), "weight", 0.5, 2, 0),
        lambda p, m, a: p.custom_from_mask(p.l1_unstructured(m, "weight", 0.3), "weight", a(np.arange(30).reshape(6, 5) % 3 > 0)),
        lambda p, m, a: p.global_unstructured([(m, "weight"), (m, "bias")], pruning_method=p.L1Unstructured, amount=0.4),
        lambda p, m, a: p.global_unstructured(
            [(m, "bias"), (p.l1_unstructured(m, "weight", 0.2), "weight")], p.L1Unstructured, {(m, "bias"): a(np.arange(6.0))}, amount=9
        ),
    ],
)
def test_pruning(do: Any, rng: np.random.Generator) -> None:
    ours, theirs = layers(rng)
    orig = ours.weight
    do(prune, ours, np.asarray)
    do(P, theirs, torch.tensor)
    agree(ours, theirs)
    x = rng.normal(size=(4, 5))
    ours(x).sum().backward()
    theirs(torch.tensor(x)).sum().backward()
    assert ours.weight_orig is orig and prune.is_pruned(ours)
    assert_close(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=1e-13)
    prune.remove(ours, "weight")
    P.remove(theirs, "weight")
    agree(ours, theirs)
    assert ours.weight is orig and list(ours._parameters)[-1] == "weight"


def test_pruning_by_chance(backend: support.Backend) -> None:
    layer = nn.Linear(5, 6, dtype="float64", xp=backend.xp)
    prune.random_unstructured(layer, "weight", 0.4)
    mask = backend.numpy(layer.weight_mask.data)
    assert (mask == 0).sum() == 12 and set(mask.reshape(-1)) == {0.0, 1.0} and layer.weight_mask.dtype == layer.weight.dtype
    prune.random_structured(layer, "weight", 2, dim=0)
    now = backend.numpy(layer.weight_mask.data)
    assert (now <= mask).all() and (now.sum(axis=1) == 0).sum() >= 2
    hook = next(iter(layer._forward_pre_hooks.values()))
    assert isinstance(hook, prune.PruningContainer) and [type(m) for m in hook] == [prune.RandomUnstructured, prune.RandomStructured]
    assert len(hook) == 2 and hook[0].amount == 0.4 and len(layer._forward_pre_hooks) == 1
    layer.load_state_dict(layer.state_dict())


def test_a_method_of_ones_own(rng: np.random.Generator) -> None:
    class EverySecond(prune.BasePruningMethod):
        def compute_mask(self, t: Any, default_mask: Any) -> Any:
            mask = default_mask.copy()
            mask.reshape(-1)[::2] = 0
            return mask

    layer, _ = layers(rng)
    EverySecond.apply(layer, "bias")
    assert layer.bias_mask.data.tolist() == [0, 1, 0, 1, 0, 1]
    assert EverySecond().prune(np.ones(4)).tolist() == [0, 1, 0, 1]
    assert EverySecond().prune(ad.Variable(np.ones(4)), default_mask=np.asarray([1, 0, 1, 1])).tolist() == [0, 0, 0, 1]


def test_what_pruning_refuses(rng: np.random.Generator) -> None:
    layer, _ = layers(rng)
    for call, text in [
        (lambda: prune.l1_unstructured(layer, "weight", 31), "amount=31 is more than there is to prune: 30"),
        (lambda: prune.l1_unstructured(layer, "weight", -1), "amount is a fraction between 0 and 1, or a whole number"),
        (lambda: prune.l1_unstructured(layer, "weight", 1.5), "not 1.5"),
        (lambda: prune.l1_unstructured(layer, "weight", "a"), "amount is a number, not 'a'"),
        (lambda: prune.ln_structured(layer, "bias", 1, 2, 0), r"2 dimensions or more, not of shape \(6,\)"),
        (lambda: prune.ln_structured(layer, "weight", 1, 2, 2), r"there is no axis 2 in a parameter of shape \(6, 5\)"),
        (lambda: prune.custom_from_mask(layer, "weight", np.ones(3)), r"a mask has the shape of the parameter, \(6, 5\), not \(3,\)"),
        (lambda: prune.l1_unstructured(layer, "weight", 1, np.ones(3)), r"importance_scores have the shape .* \(6, 5\), not \(3,\)"),
        (lambda: prune.identity(layer, "training"), "Linear has no parameter 'training'"),
        (lambda: prune.remove(layer, "weight"), "the parameter 'weight' of Linear is not pruned"),
        (lambda: prune.global_unstructured([(layer, "weight")], prune.LnStructured, amount=1, n=2), "that of LnStructured is not"),
        (lambda: prune.global_unstructured([(layer, "weight")], prune.L1Unstructured, [], amount=1), "is a dict from"),
        (lambda: prune.PruningContainer(3), "int"),
    ]:
        with pytest.raises((ValueError, TypeError, IndexError, AttributeError), match=text):
            call()
        assert list(layer.state_dict()) == ["weight", "bias"] and not prune.is_pruned(layer)
