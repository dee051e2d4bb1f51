"""PyTorch's own lists of cases (module_db, op_db), and the way from its objects to ours and back."""

from __future__ import annotations

import sys
import types
import unittest
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

import agnostic_ad as ad
from agnostic_ad import nn


@cache
def load(module: str, name: str) -> Any:
    """Import one of the lists; they need a package for nothing that we use."""
    torch = pytest.importorskip("torch")
    if "expecttest" not in sys.modules:
        stub = types.ModuleType("expecttest")
        stub.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stub
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(__import__(f"torch.testing._internal.{module}", fromlist=[name]), name)
    torch.set_default_dtype(torch.float32)  # importing the lists changes nothing else
    return found


@cache
def modules() -> dict[str, Any]:
    """Give the entries of module_db by the name of the class."""
    return {info.module_cls.__name__: info for info in load("common_modules", "module_db")}


@cache
def functions() -> dict[str, list[Any]]:
    """Give the entries of op_db that are functions of nn.functional, by their names."""
    found: dict[str, list[Any]] = {}
    for info in load("common_methods_invocations", "op_db"):
        if info.name.startswith("nn.functional."):
            found.setdefault(info.name.removeprefix("nn.functional."), []).append(info)
    return found


def ours(x: Any, leaves: list[tuple[Any, Any]] | None = None) -> Any:
    """Make ours of an argument of torch's; floating tensors that require grad become Variables, and join ``leaves``."""
    torch = sys.modules["torch"]
    if isinstance(x, torch.Tensor):
        host = x.detach().resolve_conj().numpy().copy()
        if not x.requires_grad:
            return host
        twice = next((mine for mine, other in leaves or () if other is x), None)
        if twice is not None:
            return twice
        variable = ad.Variable(host)
        if leaves is not None:
            x.retain_grad()  # some are no leaves
            x.grad = None  # and some are in several samples
            leaves.append((variable, x))
        return variable
    if isinstance(x, torch.dtype):
        return str(x).removeprefix("torch.")
    if isinstance(x, torch.device):
        return str(x)
    if isinstance(x, torch.Size):
        return tuple(x)
    if isinstance(x, torch.nn.TransformerEncoderLayer | torch.nn.TransformerDecoderLayer):
        return _layer(x)
    if isinstance(x, torch.nn.PairwiseDistance):
        return nn.PairwiseDistance(x.norm, x.eps, x.keepdim)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(ours(each, leaves) for each in x))
    if isinstance(x, list | tuple):
        return type(x)(ours(each, leaves) for each in x)
    if isinstance(x, dict):
        return {key: ours(each, leaves) for key, each in x.items()}
    if callable(x) and getattr(torch.nn.functional, getattr(x, "__name__", ""), None) is x:
        return getattr(nn.functional, x.__name__)
    if type(x).__module__.startswith("torch."):
        raise TypeError(f"there is no way from {type(x).__name__}")
    return x


def _layer(x: Any) -> Any:
    """Make ours of a layer that a Transformer takes as an argument."""
    layer = getattr(nn, type(x).__name__)(
        d_model=x.linear1.in_features,
        nhead=x.self_attn.num_heads,
        dim_feedforward=x.linear1.out_features,
        dropout=x.dropout.p,
        activation=ours(x.activation),
        layer_norm_eps=x.norm1.eps,
        batch_first=x.self_attn.batch_first,
        norm_first=x.norm_first,
        bias=x.linear1.bias is not None,
        dtype="float64",
    )
    layer.load_state_dict(state(x))
    return layer


def state(module: Any) -> dict[str, Any]:
    """Give a state of torch's as NumPy arrays."""
    return {name: value.numpy().copy() if hasattr(value, "numpy") else value for name, value in module.state_dict().items()}


def flat(x: Any) -> list[Any]:
    """Give the arrays in a result, in order."""
    if isinstance(x, list | tuple):
        return [each for part in x for each in flat(part)]
    if isinstance(x, dict):
        return [each for part in x.values() for each in flat(part)]
    return [] if x is None else [x]


def host(x: Any) -> Any:
    """Give an array of torch, a Variable or a raw array as a NumPy array."""
    if hasattr(x, "detach"):
        x = x.detach()
    return np.asarray(x.data if isinstance(x, ad.Variable) else x.numpy() if hasattr(x, "numpy") else x)


def differentiable(x: Any) -> bool:
    return bool(getattr(x, "requires_grad", False))


def backward(results: list[Any], theirs: list[Any], rng: np.random.Generator) -> None:
    """Go backward from both sides with the same random cotangents."""
    torch = sys.modules["torch"]
    pairs = [(y, z) for y, z in zip(results, theirs, strict=True) if z.requires_grad]
    cts = [host(rng.normal(size=z.shape)).astype(host(z).dtype) for _, z in pairs]
    if any(np.iscomplexobj(ct) for ct in cts):
        cts = [ct + 1j * rng.normal(size=ct.shape) if np.iscomplexobj(ct) else ct for ct in cts]
    torch.autograd.backward([z for _, z in pairs], [torch.tensor(ct, dtype=z.dtype) for ct, (_, z) in zip(cts, pairs, strict=True)])
    for i, (ct, (y, _)) in enumerate(zip(cts, pairs, strict=True)):
        y.backward(ct, retain_graph=i + 1 < len(pairs))


def gradient(theirs: Any, shape: Any) -> Any:
    """Give a gradient of torch's; zeros where it has none, as it says when nothing depended."""
    return np.zeros(shape) if theirs.grad is None else host(theirs.grad.to_dense() if theirs.grad.is_sparse else theirs.grad)
