"""Models in the style of PyTorch's projects, written once for both libraries: what they compute, and their gradients, are the same."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")


def functions(xp: Any) -> Any:
    """The counterparts of PyTorch's functions, as docs/from-torch.md has them, over an array library."""
    return SimpleNamespace(
        arange=lambda *args: ad.differentiable(xp).arange(*args),
        cat=lambda tensors, dim=0: ad.differentiable(xp).concat(tensors, axis=dim),
        ones=lambda *sizes: ad.differentiable(xp).ones(sizes),
        tril=lambda x: x.tril(),
        exp=lambda x: x.exp(),
        flatten=lambda x, start_dim: x.flatten(start_dim),
    )


# --- three models --------------------------------------------------------------------------------------------------------------------------
def gpt(torch: Any, nn: Any, F: Any) -> Any:
    class Attention(nn.Module):
        def __init__(self, width: int, heads: int, block: int) -> None:
            super().__init__()
            self.heads = heads
            self.qkv = nn.Linear(width, 3 * width)
            self.proj = nn.Linear(width, width)
            self.drop = nn.Dropout(0.0)
            self.register_buffer("mask", torch.tril(torch.ones(block, block)).view(1, 1, block, block))

        def forward(self, x: Any) -> Any:
            b, t, c = x.size()
            q, k, v = self.qkv(x).split(c, dim=2)
            q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
            y = self.drop(F.softmax(scores, dim=-1)) @ v
            return self.proj(y.transpose(1, 2).contiguous().view(b, t, c))

    class Block(nn.Module):
        def __init__(self, width: int, heads: int, block: int) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(width)
            self.attn = Attention(width, heads, block)
            self.ln_2 = nn.LayerNorm(width)
            self.mlp = nn.ModuleDict({"fc": nn.Linear(width, 4 * width), "act": nn.GELU(), "proj": nn.Linear(4 * width, width)})

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp["proj"](self.mlp["act"](self.mlp["fc"](self.ln_2(x))))

    class GPT(nn.Module):
        def __init__(self, vocabulary: int = 17, width: int = 12, heads: int = 3, layers: int = 2, block: int = 10) -> None:
            super().__init__()
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(vocabulary, width),
                    "wpe": nn.Embedding(block, width),
                    "h": nn.ModuleList([Block(width, heads, block) for _ in range(layers)]),
                    "ln_f": nn.LayerNorm(width),
                }
            )
            self.lm_head = nn.Linear(width, vocabulary, bias=False)
            self.transformer["wte"].weight = self.lm_head.weight
            self.apply(self.draw)
            for name, p in self.named_parameters():
                if name.endswith("proj.weight") and p.dim() == 2:
                    nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * layers))

        def draw(self, module: Any) -> None:
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

        def forward(self, tokens: Any, targets: Any) -> Any:
            _, t = tokens.size()
            x = self.transformer["wte"](tokens) + self.transformer["wpe"](torch.arange(0, t)).unsqueeze(0)
            for block in self.transformer["h"]:
                x = block(x)
            logits = self.lm_head(self.transformer["ln_f"](x))
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
            last = logits[:, [-1], :]
            best, _ = last.topk(3)
            return loss, last.masked_fill(last < best[:, :, [-1]], -1e3).softmax(dim=-1)

    return GPT()


def resnet(torch: Any, nn: Any, F: Any) -> Any:
    class Bottleneck(nn.Module):
        expansion = 2

        def __init__(self, inputs: int, planes: int, stride: int = 1, groups: int = 1) -> None:
            super().__init__()
            out = planes * self.expansion
            self.conv1 = nn.Conv2d(inputs, planes, kernel_size=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3 = nn.Conv2d(planes, out, kernel_size=1, bias=False)
            self.bn3 = nn.BatchNorm2d(out)
            self.relu = nn.ReLU(inplace=True)
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(out, out, 1), nn.Sigmoid())
            self.downsample = None
            if stride != 1 or inputs != out:
                self.downsample = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            identity = x if self.downsample is None else self.downsample(x)
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            out = out * self.squeeze(out)
            out += identity
            return self.relu(out)

    class ResNet(nn.Module):
        def __init__(self, classes: int = 5) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, kernel_size=5, stride=2, padding=2, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = nn.Sequential(Bottleneck(4, 4), Bottleneck(8, 4, groups=2))
            self.layer2 = nn.Sequential(OrderedDict(first=Bottleneck(8, 6, stride=2), second=Bottleneck(12, 6)))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(12, classes)
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(m, nn.BatchNorm2d):
                    nn.init.constant_(m.weight, 1)

        def forward(self, x: Any) -> Any:
            x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
            x = self.avgpool(self.layer2(self.layer1(x)))
            return (self.fc(torch.flatten(x, 1)),)

    return ResNet()


def variational_unet(torch: Any, nn: Any, F: Any) -> Any:
    class DoubleConv(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.double_conv = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.GroupNorm(2, outputs),
                nn.SiLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.ELU(),
            )

        def forward(self, x: Any) -> Any:
            return self.double_conv(x)

    class Net(nn.Module):
        def __init__(self, latent: int = 3) -> None:
            super().__init__()
            self.inc, self.down = DoubleConv(1, 4), nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
            self.mu, self.logvar = nn.Linear(8 * 9, latent), nn.Linear(8 * 9, latent)
            self.decode = nn.Linear(latent, 8 * 9)
            self.up = nn.ConvTranspose2d(8, 4, kernel_size=2, stride=2)
            self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv, self.outc = DoubleConv(16, 4), nn.Conv2d(4, 1, 1)

        def forward(self, x: Any, noise: Any) -> Any:
            x1 = self.inc(x)
            x2 = self.down(x1)
            h = x2.view(-1, 8 * 9)
            mu, logvar = self.mu(h), self.logvar(h).clamp(-5, 5)
            z = mu + noise.expand_as(mu).type_as(mu) * torch.exp(0.5 * logvar)
            y = self.decode(z).reshape(x2.shape)
            y, skip = self.up(y), self.up2(x2)
            dy, dx = x1.size(2) - y.size(2), x1.size(3) - y.size(3)
            y = F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
            skip = F.pad(skip, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
            y = self.outc(self.conv(torch.cat([x1, y, skip], dim=1)))
            image = x.flatten(1).sigmoid()
            kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1).mean()
            return F.binary_cross_entropy_with_logits(y.flatten(1), image, reduction="sum") + kld, y, mu.std(-1, keepdim=True)

    return Net()


RNG = np.random.default_rng(0)
MODELS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "gpt": (gpt, [RNG.integers(0, 17, (2, 7)), RNG.integers(0, 17, (2, 7))]),
    "resnet": (resnet, [RNG.normal(size=(3, 3, 20, 18))]),
    "variational_unet": (variational_unet, [RNG.normal(size=(2, 1, 7, 7)), RNG.normal(size=(2, 1))]),
}


SLOW = {"jax", "dask"}


# --- beside PyTorch ------------------------------------------------------------------------------------------------------------------------
def pair(name: str, backend: support.Backend, training: bool) -> tuple[Any, Any]:
    """The same model over both libraries, with the same weights."""
    build, _ = MODELS[name]
    theirs = build(torch, torch.nn, torch.nn.functional).double().train(training)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.from_numpy(0.1 * np.cos(np.arange(p.numel())).reshape(p.shape)))
    with ad.defaults(xp=backend.xp, dtype="float64"):
        ours = build(functions(backend.xp), nn, F).train(training)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    return ours, theirs


def assert_agree(name: str, backend: support.Backend, training: bool) -> None:
    arrays = MODELS[name][1]
    ours, theirs = pair(name, backend, training)
    x = [ad.Variable(backend.asarray(a)) for a in arrays]
    t = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    loss, their_loss = 0.0, 0.0
    for y, z in zip(ours(*x), theirs(*t), strict=True):
        assert_close(backend.numpy(y.detach().data), z.detach().numpy(), 1e-9, 1e-12)
        weights = np.cos(np.arange(z.numel())).reshape(z.shape)
        loss, their_loss = loss + (y * backend.asarray(weights)).sum(), their_loss + (z * torch.tensor(weights)).sum()
    loss.backward()
    their_loss.backward()
    pairs = [(v, u) for v, u in zip(x, t, strict=True) if u.requires_grad]
    pairs += list(zip(ours.parameters(), theirs.parameters(), strict=True))
    for v, u in pairs:
        assert_close(backend.numpy(v.grad), u.grad.numpy(), 1e-7, 1e-9)
    for v, u in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert_close(backend.numpy(v.data), u.numpy(), 1e-9, 1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, training: bool) -> None:
    assert_agree(name, support.Backend("numpy"), training)


@pytest.mark.parametrize("name", MODELS)
def test_models_on_every_library(name: str, backend: support.Backend) -> None:
    if backend.name in SLOW and name != "gpt":
        pytest.skip(f"{backend.name} takes long over convolutions: it compiles, or copies, each anew")
    assert_agree(name, backend, True)


@pytest.mark.parametrize("name", MODELS)
def test_models_train_alike(name: str) -> None:
    arrays = MODELS[name][1]
    ours, theirs = pair(name, support.Backend("numpy"), True)
    a, b = nn.optim.AdamW(ours.parameters(), lr=1e-2), torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    for _ in range(3):
        for model, optimizer, x in ((ours, a, [ad.Variable(v) for v in arrays]), (theirs, b, [torch.tensor(v) for v in arrays])):
            optimizer.zero_grad()
            (model(*x)[0] ** 2).mean().backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(p.data, q.detach().numpy(), 1e-6, 1e-8)  # Adam divides by the square root of a gradient's square, which may be tiny


# --- a model's state beside a plain dict ---------------------------------------------------------------------------------------------------
def test_tangents_of_a_state_may_be_a_plain_dict() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    state = model.state_dict()
    assert isinstance(state, OrderedDict)
    x = RNG.normal(size=(5, 3)).astype("float32")
    tangents = {name: np.cos(np.arange(v.size, dtype="float32")).reshape(v.shape) for name, v in reversed(state.items())}

    def f(state: Any) -> Any:
        return nn.functional_call(model, state, (x,)).sum()

    _, tangent = ad.jvp(f, (state,), (tangents,))
    gradient = ad.grad(f)(state)
    assert_close(tangent, sum((gradient[name] * tangents[name]).sum() for name in state), 1e-5)
    with pytest.raises(TypeError, match=r"jvp\(f\): the tangents have structure .*'0.weight'.*, the primals"):
        ad.jvp(f, (state,), ({"0.weight": tangents["0.weight"]},))


def test_cotangents_may_be_another_dict() -> None:
    _, pullback = ad.vjp(lambda x: OrderedDict(b=x, a=2 * x), np.ones(2))
    (ct,) = pullback({"a": np.ones(2), "b": np.asarray([10.0, 20.0])})
    assert_close(ct, np.asarray([12.0, 22.0]), 1e-15)
    with pytest.raises(TypeError, match="the cotangent has structure"):
        pullback({"a": np.ones(2), "b": [np.ones(2)]})
