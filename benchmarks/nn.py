"""Layers and training steps on NumPy beside torch eager: the same code for both, with one changed import.

Both sides start from the same weights and see the same float32 data; the first loss must agree.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import BenchmarkError, Candidate, Row, Spread, compare, in_process, interleave, peak_rss, rss, torch_or_none

CHARACTERS = 96


# --- models: `nn` is agnostic_ad.nn or torch.nn -----------------------------------------------------------------------------------------
def mlp(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def conv(nn: Any) -> Any:
    return nn.Conv2d(64, 64, 3, padding=1)


def block(nn: Any) -> Any:
    return nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())


def lenet(nn: Any) -> Any:
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )


def gpt(nn: Any, layers: int = 4, width: int = 256, heads: int = 8, time: int = 128) -> Any:
    F = nn.functional

    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            q, k, v = (part.view(batch, length, heads, width // heads).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(batch, length, width))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.attention, self.ln2 = nn.LayerNorm(width), Attention(), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(CHARACTERS, width), nn.Embedding(time, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CHARACTERS, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.places.weight[: x.shape[1]]
            return self.head(self.norm(self.blocks(x))).reshape(-1, CHARACTERS)

    return GPT()


def lstm(nn: Any) -> Any:
    return nn.LSTM(128, 128)


def cell(nn: Any) -> Any:
    class Loop(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(128, 128)

        def forward(self, x: Any) -> Any:
            h = self.cell(x[0])
            for t in range(1, x.shape[0]):
                h = self.cell(x[t], h)
            return h[0]

    return Loop()


def embedding(nn: Any) -> Any:
    return nn.Embedding(1000, 64)


# --- what is timed ----------------------------------------------------------------------------------------------------------------------
def training(nn: Any, optim: Any, model: Any, x: Any, y: Any) -> Candidate:
    """Give a step of training with Adam; it gives the loss."""
    optimizer, criterion = optim.Adam(model.parameters(), lr=1e-4), nn.CrossEntropyLoss()

    def step() -> Any:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def both_ways(model: Any, x: Any, ct: Any) -> Candidate:
    """Give forward and backward, with gradients of the input too where it has some; it gives a sum of the result."""

    def run() -> Any:
        model.zero_grad()
        if getattr(x, "grad", None) is not None:
            x.grad = None
        y = model(x)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(ct)
        return y.detach().sum()

    return run


def _sizes(smoke: bool) -> dict[str, tuple[Any, Any, Any]]:
    """Give, for each workload, the model, the shape of its input, and that of what it is trained on, or goes backward from."""
    n = 2 if smoke else 32
    return {
        "MLP step, Adam": (mlp, (4 if smoke else 128, 784), 10),
        "conv 64-64 F+B": (conv, (n, 64, n, n), (n, 64, n, n)),
        "conv + batch norm + ReLU F+B": (block, (n, 64, n, n), (n, 64, n, n)),
        "LeNet step": (lenet, (2 * n, 1, 28, 28), 10),
        "GPT step": (gpt, (1, 8) if smoke else (8, 128), CHARACTERS),
        "nn.LSTM F+B": (lstm, (2 * n, n, 128), (2 * n, n, 128)),
        "loop over LSTMCell F+B": (cell, (2 * n, n, 128), (n, 128)),
        "embedding F+B": (embedding, (64 if smoke else 8192,), (64 if smoke else 8192, 64)),
    }


BARS = {
    "MLP step, Adam": 1.0,
    "conv 64-64 F+B": 1.1,
    "conv + batch norm + ReLU F+B": 1.1,
    "LeNet step": 1.1,
    "GPT step": 1.2,
    "nn.LSTM F+B": 1.25,
    "loop over LSTMCell F+B": 1.1,
    "embedding F+B": 1.0,
}


def candidates(name: str, smoke: bool = False) -> dict[str, Candidate]:
    """Give ours and torch's."""
    import numpy as np

    import agnostic_ad as ad
    from agnostic_ad import nn

    make, shape, target = _sizes(smoke)[name]
    rng = np.random.default_rng(0)
    tokens = make in (gpt, embedding)
    x = rng.integers(0, CHARACTERS, shape) if tokens else rng.normal(size=shape).astype("float32")
    y = (
        rng.integers(0, target, (x.size if tokens else x.shape[0],))
        if isinstance(target, int)
        else rng.normal(size=target).astype("float32")
    )
    torch = torch_or_none()
    mine = make(nn)
    found: dict[str, Candidate] = {}
    if torch is not None:
        theirs = make(torch.nn)
        mine.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    if isinstance(target, int):
        found["ours"] = training(nn, nn.optim, mine, x, y)
        if torch is not None:
            found["torch"] = training(torch.nn, torch.optim, theirs, torch.tensor(x), torch.tensor(y))
    else:
        found["ours"] = both_ways(mine, x if tokens else ad.Variable(x), y)
        if torch is not None:
            found["torch"] = both_ways(theirs, torch.tensor(x, requires_grad=not tokens), torch.tensor(y))
    if torch is not None:
        ours, their = float(found["ours"]()), float(found["torch"]())
        if abs(ours - their) > 1e-3 * (abs(their) + x.size**0.5):
            raise BenchmarkError(f"{name}: ours gives {ours}, torch {their}")
    return found


def timed(name: str, rounds: int, smoke: bool) -> dict[str, list[float]]:
    """Time one workload."""
    return interleave(candidates(name, smoke), rounds, stretch=0.0 if smoke else 0.1)


def memory(side: str) -> float:
    """Give by how many MB three steps of the GPT raise the peak of a process that has imported everything."""
    step = candidates("GPT step", smoke=True)[side]  # whatever is loaded late is loaded now
    step()
    start = rss()
    step = candidates_of(side)
    for _ in range(3):
        step()
    return peak_rss() - start


def candidates_of(side: str) -> Candidate:
    """Give one side's GPT step alone."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, CHARACTERS, (8, 128)), rng.integers(0, CHARACTERS, (1024,))
    if side == "torch":
        torch = torch_or_none()
        return training(torch.nn, torch.optim, gpt(torch.nn), torch.tensor(x), torch.tensor(y))
    from agnostic_ad import nn

    return training(nn, nn.optim, gpt(nn), x, y)


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rows = []
    for name in _sizes(smoke):
        if smoke:
            times = timed(name, rounds or 1, smoke)
        else:  # in a process of its own, so that none profits from another's memory
            times = in_process("nn.timed", name=name, rounds=rounds or 11, smoke=smoke)
        rows.append(compare(name, times, "ours", "torch", unit="ms", scale=1e3, bar=BARS[name]))
    if not smoke:
        mine = in_process("nn.memory", side="ours")
        theirs = in_process("nn.memory", side="torch") if torch_or_none() is not None else None
        value = None if theirs is None else Spread.single(mine / theirs)
        rows.append(Row("GPT step: peak memory above start", "MB", mine, "torch", theirs, value, 1.1))
    return rows
