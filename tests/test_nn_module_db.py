"""Every input of PyTorch's own list of modules: values, gradients, and states afterwards, beside PyTorch in float64."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch_db

from agnostic_ad import nn
from agnostic_ad.nn.samples import subjects

torch = pytest.importorskip("torch")

# What the list has and we leave out, with the reason.
LEFT_OUT: dict[str, str] = {}
# Single inputs that are left out: words of their description or arguments, with the reason.
INPUTS: dict[str, dict[str, str]] = {
    "LinearCrossEntropyLoss": {"LinearCrossEntropyOptions": "how PyTorch computes in pieces; the numbers are the same"},
}
# Those whose gradients are compared elsewhere, with the reason.
GRADIENTS = {"CTCLoss": "PyTorch's holds only behind a log_softmax, with which test_nn_losses compares it"}

# Ours that the list has not, and where they are compared.
UNLISTED = {
    "AdaptiveLogSoftmaxWithLoss": "test_nn_embedding",
    "AlphaDropout": "test_nn_dropout",
    "ChannelShuffle": "test_nn_vision",
    "CosineSimilarity": "test_nn_distance",
    "CrossMapLRN2d": "test_nn_normalization",
    "Dropout": "test_nn_dropout",
    "Dropout1d": "test_nn_dropout",
    "Dropout2d": "test_nn_dropout",
    "Dropout3d": "test_nn_dropout",
    "EmbeddingBag": "test_nn_embedding",
    "FeatureAlphaDropout": "test_nn_dropout",
    "Flatten": "test_nn_torch",
    "Fold": "test_nn_conv",
    "Hardsigmoid": "test_nn_activations",
    "Identity": "test_nn_module_containers",
    "LazyBatchNorm1d": "test_nn_module_lazy",
    "LazyBatchNorm2d": "test_nn_module_lazy",
    "LazyBatchNorm3d": "test_nn_module_lazy",
    "LazyInstanceNorm1d": "test_nn_module_lazy",
    "LazyInstanceNorm2d": "test_nn_module_lazy",
    "LazyInstanceNorm3d": "test_nn_module_lazy",
    "LazyLinear": "test_nn_module_lazy",
    "MaxUnpool1d": "test_nn_pool",
    "MaxUnpool2d": "test_nn_pool",
    "MaxUnpool3d": "test_nn_pool",
    "PairwiseDistance": "test_nn_distance",
    "PixelShuffle": "test_nn_vision",
    "PixelUnshuffle": "test_nn_vision",
    "RNNBase": "test_nn_recurrent",
    "RReLU": "test_nn_activations",
    "Sequential": "test_nn",
    "TransformerDecoder": "test_nn_transformer",
    "TripletMarginLoss": "test_nn_losses",
    "TripletMarginWithDistanceLoss": "test_nn_losses",
    "Unflatten": "test_nn_module_containers",
    "Unfold": "test_nn_conv",
    "Upsample": "test_nn_vision",
    "UpsamplingBilinear2d": "test_nn_vision",
    "UpsamplingNearest2d": "test_nn_vision",
}
# Those whose errors the list has.
REFUSING = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CircularPad1d", "CircularPad2d", "CircularPad3d", "CrossEntropyLoss", "Embedding", "GRU", "GRUCell",
    "GroupNorm", "HuberLoss", "LSTM", "LSTMCell", "LinearCrossEntropyLoss", "MaxPool2d", "MultiMarginLoss", "NLLLoss", "RNN", "RNNCell",
]  # fmt: skip

OURS = sorted(name.removeprefix("nn.") for name in subjects() if name.startswith("nn."))
NAMES = [name for name in OURS if name not in UNLISTED]


def test_the_whole_list_is_here() -> None:
    listed = set(torch_db.modules())
    assert sorted(listed - set(LEFT_OUT) - set(OURS)) == []
    assert sorted(set(OURS) - listed - set(UNLISTED)) == []
    assert sorted((set(LEFT_OUT) & set(OURS)) | (set(UNLISTED) & listed)) == []
    assert sorted(name for name, info in torch_db.modules().items() if info.module_error_inputs_func) == sorted(REFUSING)


def left_out(name: str, text: str) -> bool:
    return any(word in text for word in INPUTS.get(name, ()))


def told(each: Any) -> str:
    def short(x: Any) -> Any:
        return tuple(x.shape) if isinstance(x, torch.Tensor) else type(x)(map(short, x)) if isinstance(x, list | tuple) else x

    def arguments(given: Any) -> str:
        return ", ".join([*(str(short(a)) for a in given.args), *(f"{k}={short(v)}" for k, v in given.kwargs.items())])

    return "".join(f"({arguments(given)})" for given in (each.constructor_input, each.forward_input) if given is not None) + f" {each.desc}"


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")  # NumPy's word where PyTorch gives NaN
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NAMES)
def test_module(name: str, training: bool, rng: np.random.Generator) -> None:
    info = torch_db.modules()[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=training)
    assert inputs
    for each in inputs:
        text = told(each)
        if left_out(name, text):
            continue
        built, given = each.constructor_input, each.forward_input
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = info.module_cls(*built.args, **built.kwargs).to(torch.float64).train(training)
            before = None if info.is_lazy else torch_db.state(theirs)
            wanted = theirs(*given.args, **given.kwargs)
        leaves: list[tuple[Any, Any]] = []
        dtype = {"dtype": "float64"} if "dtype" in inspect.signature(getattr(nn, name)).parameters else {}
        module = getattr(nn, name)(*torch_db.ours(built.args), **{**dtype, **torch_db.ours(built.kwargs)})
        module.train(training)
        module.load_state_dict(torch_db.state(theirs) if before is None else before)
        args, kwargs = torch_db.ours(given.args, leaves), torch_db.ours(given.kwargs, leaves)
        got = torch_db.flat(module(*args, **kwargs))
        wanted = torch_db.flat(wanted)
        assert len(got) == len(wanted), text
        for y, z in zip(got, wanted, strict=True):
            assert tuple(y.shape) == tuple(z.shape), text
            np.testing.assert_allclose(torch_db.host(y), torch_db.host(z), rtol=1e-9, atol=1e-9, err_msg=text)
        if name in GRADIENTS or not any(torch_db.differentiable(z) for z in wanted):
            continue
        torch_db.backward(got, wanted, rng)
        parameters = dict(module.named_parameters())
        pairs = [*leaves, *((parameters[key], p) for key, p in theirs.named_parameters())]
        assert len(parameters) == len(list(theirs.parameters())), text
        for mine, other in pairs:
            if mine.grad is None:
                assert not np.any(torch_db.gradient(other, mine.shape)), text
            else:
                np.testing.assert_allclose(
                    torch_db.host(mine.grad), torch_db.gradient(other, mine.shape), rtol=1e-7, atol=1e-9, err_msg=text
                )
        after, state = module.state_dict(), torch_db.state(theirs)
        assert list(after) == list(state), text
        for key, value in state.items():
            np.testing.assert_allclose(np.asarray(after[key]), value, rtol=1e-9, atol=1e-12, err_msg=f"{key} after {text}")


@pytest.mark.parametrize("name", [name for name in REFUSING if name in OURS])
def test_errors(name: str) -> None:
    """What PyTorch refuses is refused, with an exception of the usual kinds and some words."""
    info = torch_db.modules()[name]
    for each in info.module_error_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=False, training=True):
        text = told(each.module_error_input)
        if left_out(name, text):
            continue
        built, given = each.module_error_input.constructor_input, each.module_error_input.forward_input
        with pytest.raises((ValueError, TypeError, IndexError, NotImplementedError)) as caught:
            module = getattr(nn, name)(*torch_db.ours(built.args), **torch_db.ours(built.kwargs))
            if given is not None:
                module(*torch_db.ours(given.args), **torch_db.ours(given.kwargs))
        assert str(caught.value), text
