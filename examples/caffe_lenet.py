"""LeNet as Caffe defines and trains it, layer by layer; and the same net as modules of nn, from the same initial weights.

    python examples/caffe_lenet.py                          # 10,000 iterations on Fashion-MNIST
    python examples/caffe_lenet.py --iterations 1000        # a short form
    python examples/caffe_lenet.py --solver lenet_solver.prototxt --net lenet_train_test.prototxt     # Caffe's own files

The data layers of the definition name databases; arrays are read in their place.
"""

import argparse
import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import caffe

# After LeCun et al., "Gradient-based learning applied to document recognition", 1998, with the sizes of Caffe's example.
NET = """
name: "LeNet"
layer { name: "images" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { scale: 0.00390625 } data_param { source: "train_lmdb" batch_size: 64 backend: LMDB } }
layer { name: "images" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { scale: 0.00390625 } data_param { source: "test_lmdb" batch_size: 100 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" param { lr_mult: 1 } param { lr_mult: 2 }
        inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" param { lr_mult: 1 } param { lr_mult: 2 }
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = """
base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 0.0001 power: 0.75
test_iter: 100 test_interval: 500 display: 100 max_iter: 10000
"""


class LeNet(nn.Module):
    """The same net as modules, whose names are those of the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.ip1, self.ip2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Any) -> Any:
        """Give scores of shape (N, 10) for images (N, 1, 28, 28)."""
        pool = nn.functional.max_pool2d
        x = pool(self.conv2(pool(self.conv1(x), 2)), 2)
        return self.ip2(nn.functional.relu(self.ip1(x.flatten(1))))


def train_modules(model: LeNet, solver: caffe.Solver, images: Any, labels: Any) -> None:
    """Train the modules as the solver trains its net: the same batches, rates and decay."""
    how = solver.param
    weights, biases = ([p for name, p in model.named_parameters() if name.endswith(end)] for end in ("weight", "bias"))
    groups = [{"params": weights}, {"params": biases, "lr": 2 * how.base_lr}]
    optimizer = nn.optim.SGD(groups, lr=how.base_lr, momentum=how.momentum, weight_decay=how.weight_decay)
    scheduler = nn.optim.lr_scheduler.LambdaLR(optimizer, lambda i: caffe.learning_rate(how, i) / how.base_lr)
    criterion = nn.CrossEntropyLoss()
    for i in range(how.max_iter):
        rows = np.arange(64 * i, 64 * (i + 1)) % len(images)
        optimizer.zero_grad()
        criterion(model(images[rows]), labels[rows]).backward()
        optimizer.step()
        scheduler.step()


def main(arguments: Sequence[str] | None = None) -> tuple[float, float]:
    """Train both; give the accuracies on the test images, the net's and the modules'."""
    parser = argparse.ArgumentParser(description="LeNet with Caffe's layers and solver, and the same net in nn")
    parser.add_argument("--solver", default=SOLVER, help="a solver's prototxt file (default: the one in this file)")
    parser.add_argument("--net", help="a net's prototxt file (default: the one in this file)")
    parser.add_argument("--iterations", type=int, default=10000)
    parser.add_argument("--xp", default="numpy", help="the array library of the layers: numpy, cupy, torch, jax.numpy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train, test = (nn.data.datasets.FashionMNIST(train=part) for part in (True, False))
    (images, labels), (others, answers) = ([np.asarray(t) for t in part.tensors] for part in (train, test))
    pixels, more = (np.rint(255 * x).astype("uint8") for x in (images, others))  # as a database has them
    which = {"net": options.net} if options.net else {"net_param": caffe.parse(NET)}
    solver = caffe.Solver(
        options.solver,
        inputs={"TRAIN": {"data": pixels, "label": labels}, "TEST": {"data": more, "label": answers}},
        xp=importlib.import_module(options.xp),
        generator=ad.Generator(options.seed),
        max_iter=options.iterations,
        test_iter=[len(more) // 100],
        snapshot=0,
        snapshot_after_train=False,
        **which,
    )
    model = LeNet()
    caffe.load_into(model, solver.net)

    start = time.perf_counter()
    solver.solve()
    right = solver.test()["accuracy"][0]
    print(f"layers: test accuracy {right:.2%}, {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    train_modules(model, solver, images * (255 / 256), labels)
    with ad.no_grad():
        scores = np.concatenate([model(others[i : i + 500] * (255 / 256)).numpy() for i in range(0, len(others), 500)])
    same = float((scores.argmax(1) == answers).mean())
    print(f"modules: test accuracy {same:.2%}, {time.perf_counter() - start:.0f} s", flush=True)
    return right, same


if __name__ == "__main__":
    main()
