"""Optimizers, under PyTorch's names, arguments and names of state."""

from agnostic_ad.nn.optim import lr_scheduler, swa_utils
from agnostic_ad.nn.optim.adam import AdaBelief, Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from agnostic_ad.nn.optim.adaptive import LAMB, Adadelta, Adafactor, Adagrad, Adan, NovoGrad, RMSprop, Yogi
from agnostic_ad.nn.optim.lbfgs import LBFGS
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.optim.rule import Rule
from agnostic_ad.nn.optim.sgd import ASGD, LARS, SGD, Lion, Muon, Rprop
from agnostic_ad.nn.optim.wrappers import ApplyIfFinite, Lookahead, MultiSteps, adaptive_clip_grad_

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "LBFGS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "ApplyIfFinite",
    "Lion",
    "Lookahead",
    "MultiSteps",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Rule",
    "SparseAdam",
    "Yogi",
    "adaptive_clip_grad_",
    "lr_scheduler",
    "swa_utils",
]
