"""A network of two layers, 784-128-10 unless told otherwise, and Adam: on Variables, by hand in NumPy, and in torch.

All start from the same weights. A contestant has ``step(x, y)``, one step of training, and ``predict(x)``, class numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def weights(sizes: tuple[int, int, int] = (784, 128, 10), seed: int = 0) -> list[Any]:
    """Give w1 (in, hidden), b1, w2 (hidden, out), b2 as float32, uniform as torch's Linear has them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    made = []
    for fan_in, fan_out in pairwise(sizes):
        bound = fan_in**-0.5
        made += [rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)]
    return [w.astype("float32") for w in made]


class Adam:
    """Adam on raw arrays, written out for any library whose arrays can be changed in place."""

    def __init__(self, xp: Any, parameters: list[Any]) -> None:
        self.xp, self.parameters, self.time = xp, parameters, 0
        self.m, self.v = [xp.zeros_like(p) for p in parameters], [xp.zeros_like(p) for p in parameters]

    def step(self, gradients: list[Any]) -> None:
        """Update the parameters."""
        self.time += 1
        rate, root = RATE / (1 - BETA1**self.time), (1 - BETA2**self.time) ** 0.5
        for p, m, v, g in zip(self.parameters, self.m, self.v, gradients):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * g * g
            p -= rate * m / (self.xp.sqrt(v) / root + EPSILON)


class ByHand:
    """Raw arrays, the derivative written out."""

    def __init__(self, xp: Any, parameters: list[Any]) -> None:
        self.xp, self.parameters, self.adam = xp, parameters, Adam(xp, parameters)

    def step(self, x: Any, y: Any) -> None:
        """Train on a batch."""
        xp, (w1, b1, w2, b2) = self.xp, self.parameters
        hidden = xp.maximum(x @ w1 + b1, 0)
        logits = hidden @ w2 + b2
        p = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        p /= xp.sum(p, axis=1, keepdims=True)
        p[xp.arange(len(y)), y] -= 1
        p /= len(y)
        back = (p @ w2.T) * (hidden > 0)
        self.adam.step([x.T @ back, xp.sum(back, axis=0), hidden.T @ p, xp.sum(p, axis=0)])

    def predict(self, x: Any) -> Any:
        """Classify."""
        w1, b1, w2, b2 = self.parameters
        return self.xp.argmax(self.xp.maximum(x @ w1 + b1, 0) @ w2 + b2, axis=1)


class OnVariables:
    """Variables and the array namespace alone; the optimizer is the one written out above."""

    def __init__(self, raw: Any, parameters: list[Any]) -> None:
        import agnostic_ad as ad

        self.xp, self.raw = ad.differentiable(raw), raw
        self.variables = [ad.Variable(p) for p in parameters]
        self.adam = Adam(raw, [v.data for v in self.variables])  # the same memory: updates show in the Variables

    def logits(self, x: Any) -> Any:
        """Run the network."""
        w1, b1, w2, b2 = self.variables
        return self.xp.maximum(x @ w1 + b1, 0.0) @ w2 + b2

    def step(self, x: Any, y: Any) -> None:
        """Train on a batch."""
        xp, z = self.xp, self.logits(x)
        z = z - xp.max(z, axis=1, keepdims=True).detach()
        loss = xp.mean(xp.log(xp.sum(xp.exp(z), axis=1)) - z[self.raw.arange(len(y)), y])
        loss.backward()
        self.adam.step([v.grad for v in self.variables])
        for v in self.variables:
            v.grad = None

    def predict(self, x: Any) -> Any:
        """Classify."""
        return self.raw.argmax(self.logits(x).detach().data, axis=1)


class WithModules:
    """``agnostic_ad.nn``, as its users write it."""

    def __init__(self, parameters: list[Any]) -> None:
        from agnostic_ad import nn

        fan_in, hidden, out = parameters[0].shape[0], *(b.shape[0] for b in parameters[1::2])
        self.model = nn.Sequential(nn.Linear(fan_in, hidden), nn.ReLU(), nn.Linear(hidden, out))
        w1, b1, w2, b2 = parameters
        self.model.load_state_dict({"0.weight": w1.T.copy(), "0.bias": b1, "2.weight": w2.T.copy(), "2.bias": b2})
        self.loss, self.optimizer = nn.CrossEntropyLoss(), nn.optim.Adam(self.model.parameters(), lr=RATE)

    def step(self, x: Any, y: Any) -> None:
        """Train on a batch."""
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def predict(self, x: Any) -> Any:
        """Classify."""
        import numpy as np

        return np.argmax(self.model(x).detach().data, axis=1)


class WithTorch:
    """The same in torch, on any of its devices."""

    def __init__(self, torch: Any, parameters: list[Any], device: str = "cpu") -> None:
        self.torch, self.device, nn = torch, device, torch.nn
        fan_in, hidden, out = parameters[0].shape[0], *(b.shape[0] for b in parameters[1::2])
        self.model = nn.Sequential(nn.Linear(fan_in, hidden), nn.ReLU(), nn.Linear(hidden, out)).to(device)
        w1, b1, w2, b2 = (torch.tensor(p) for p in parameters)
        self.model.load_state_dict({"0.weight": w1.T, "0.bias": b1, "2.weight": w2.T, "2.bias": b2})
        self.loss, self.optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(self.model.parameters(), lr=RATE)

    def step(self, x: Any, y: Any) -> None:
        """Train on a batch."""
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def predict(self, x: Any) -> Any:
        """Classify."""
        with self.torch.no_grad():
            return self.model(self.torch.as_tensor(x, device=self.device)).argmax(1).cpu().numpy()
