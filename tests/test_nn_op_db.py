"""Every sample of PyTorch's own list of functions of nn.functional: values and gradients beside PyTorch in float64, on raw arrays too."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch_db

from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")

# What the list has and we leave out, with the reason.
LEFT_OUT: dict[str, str] = {}
# Samples that are left out: words of their arguments, with the reason.
_RANDOM = {"output_": "windows at random; test_nn_pool compares those that are given"}
SAMPLES: dict[str, dict[str, str]] = {"fractional_max_pool2d": _RANDOM, "fractional_max_pool3d": _RANDOM}
SAMPLES |= {
    "batch_norm": {"Tensor[size=(0,)": "an input of nothing has no channels"},
    "linear_cross_entropy": {"LinearCrossEntropyOptions": "how PyTorch computes in pieces; the numbers are the same"},
    "multi_head_attention_forward": {",0.5,": "what dropout drops is drawn from another generator"},
    "scaled_dot_product_attention": {"'dropout_p': '0.5'": "what dropout drops is drawn from another generator"},
}
_CHANCE = {each: "drawn from another generator; test_nn_dropout" for each in ("'p': '0.5', 'training': 'True'", "kwargs={},")}
SAMPLES |= {name: _CHANCE for name in ("alpha_dropout", "dropout", "dropout3d", "feature_alpha_dropout")}
SAMPLES |= {
    "dropout2d": _CHANCE | {"size=(5, 5, 5),": "of three dimensions; test_nn_dropout has the warning"},
    "one_hot": {"one_hot": "the samples are for integers; test_nn_vision"},
    "rrelu": {"'training': 'True'": "drawn from another generator; test_nn_activations"},
}
# Those whose gradients are compared elsewhere, with the reason.
GRADIENTS = {"ctc_loss": "PyTorch's holds only behind a log_softmax, with which test_nn_losses compares it"}
GRADIENTS |= {f"max_unpool{d}d": "PyTorch's is that of a sum where an index repeats; test_nn_pool compares the others" for d in (1, 2, 3)}

# Those whose first two arguments the list gives in the other order.
SWAPPED = {"embedding", "embedding_bag"}

NAMES = sorted(F.__all__)


def test_the_whole_list_is_here() -> None:
    listed = set(torch_db.functions())
    assert sorted(listed - set(LEFT_OUT) - set(NAMES)) == []
    assert sorted(set(LEFT_OUT) & set(NAMES)) == []


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")  # NumPy's word where PyTorch gives NaN
@pytest.mark.filterwarnings("ignore:upsample_(nearest|bilinear) is deprecated:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_function(name: str, rng: np.random.Generator) -> None:
    entries = torch_db.functions().get(name, [])
    for info in entries:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = list(info.sample_inputs("cpu", torch.float64, requires_grad=torch.float64 in info.dtypes and info.supports_autograd))
        assert samples
        for sample in samples:
            text = f"{name}{info.variant_test_name and '.' + info.variant_test_name}: {sample.summary()}"
            if any(word in text for word in SAMPLES.get(name, ())):
                continue
            given, kwargs = (sample.input, *sample.args), sample.kwargs
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = torch_db.flat(info.op(*given, **kwargs))
            leaves: list[tuple[Any, Any]] = []
            mine = getattr(F, name)
            given = (given[1], given[0], *given[2:]) if name in SWAPPED else given
            got = torch_db.flat(mine(*torch_db.ours(given, leaves), **torch_db.ours(kwargs, leaves)))
            assert len(got) == len(wanted), text
            for y, z in zip(got, wanted, strict=True):
                assert tuple(y.shape) == tuple(z.shape), text
                np.testing.assert_allclose(torch_db.host(y), torch_db.host(z), rtol=1e-9, atol=1e-9, err_msg=text)
            if name in GRADIENTS or not any(torch_db.differentiable(z) for z in wanted):
                continue
            torch_db.backward(got, wanted, rng)
            for variable, tensor in leaves:
                if variable.grad is None:
                    assert not np.any(torch_db.gradient(tensor, variable.shape)), text
                else:
                    wanted_gradient = torch_db.gradient(tensor, variable.shape)
                    np.testing.assert_allclose(torch_db.host(variable.grad), wanted_gradient, rtol=1e-7, atol=1e-9, err_msg=text)
