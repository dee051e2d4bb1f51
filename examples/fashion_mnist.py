"""LeNet and a small ResNet on Fashion-MNIST, written as one would for PyTorch; only the import says that it is not.

    python examples/fashion_mnist.py --model lenet
    python examples/fashion_mnist.py --model resnet --epochs 6      # above 91 % of the test images
    python examples/fashion_mnist.py --model resnet --xp cupy       # on a GPU

`--images N` takes the first N training images (and N // 6 test images) only.
"""

import argparse
import importlib
import time
from collections.abc import Sequence
from typing import Any

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F


class LeNet(nn.Module):
    """Two convolutions and two linear layers, after LeCun et al., "Gradient-based learning applied to document recognition", 1998."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Any) -> Any:
        """Give scores of shape (N, classes) for images (N, 1, 28, 28)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """Two convolutions beside a short cut, after He et al., "Deep residual learning for image recognition", 2016."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.short: nn.Module = nn.Sequential()
        if stride != 1 or channels != out:
            self.short = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Any) -> Any:
        """Give (N, out, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    """A residual network of seven convolutions, small enough for a CPU."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(Block(width, 2 * width), Block(2 * width, 4 * width, stride=2))
        self.head = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Any) -> Any:
        """Give scores of shape (N, classes) for images (N, 1, 28, 28)."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


MODELS = {"lenet": LeNet, "resnet": ResNet}


def accuracy(model: nn.Module, loader: Any) -> float:
    """Give the part of the images whose class has the largest score."""
    model.eval()
    right = total = 0
    with ad.no_grad():
        for images, labels in loader:
            right += int((model(images).argmax(1) == labels).sum())
            total += labels.shape[0]
    return right / total


def main(arguments: Sequence[str] | None = None) -> float:
    """Train; give the accuracy on the test images."""
    parser = argparse.ArgumentParser(description="LeNet and a small ResNet on Fashion-MNIST")
    parser.add_argument("--model", choices=MODELS, default="lenet")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=4e-3, help="the highest rate of the one-cycle schedule")
    parser.add_argument("--images", type=int, help="how many training images to take (default: all)")
    parser.add_argument("--xp", default="numpy", help="the array library: numpy, cupy, torch, jax.numpy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    xp = importlib.import_module(options.xp)
    ad.manual_seed(options.seed)
    train, test = (nn.data.datasets.FashionMNIST(train=part) for part in (True, False))
    if options.images:
        train = nn.data.TensorDataset(*(t[: options.images] for t in train.tensors))
        test = nn.data.TensorDataset(*(t[: options.images // 6] for t in test.tensors))
    loader = nn.data.DataLoader(train, options.batch_size, shuffle=True, seed=options.seed, xp=xp)
    tests = nn.data.DataLoader(test, 500, xp=xp)

    with ad.defaults(xp=xp):
        model = MODELS[options.model]()
        criterion = nn.CrossEntropyLoss()
    optimizer = nn.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-2)
    scheduler = nn.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=options.lr, total_steps=options.epochs * len(loader))
    print(f"{options.model}: {sum(p.size for p in model.parameters()):,} parameters, {len(train):,} images, {options.xp}")
    right = 0.0
    for epoch in range(1, options.epochs + 1):
        model.train()
        start, losses = time.perf_counter(), []
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.detach())
        right = accuracy(model, tests)
        mean = sum(float(loss) for loss in losses) / len(losses)
        print(f"epoch {epoch}: loss {mean:.4f}, test accuracy {right:.2%}, {time.perf_counter() - start:.0f} s", flush=True)
    return right


if __name__ == "__main__":
    main()
