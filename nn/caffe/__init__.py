"""Layer by layer: Caffe's layers, nets and solvers over any array library."""

from agnostic_ad.nn.caffe import layers
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.bridge import ModuleLayer, as_function
from agnostic_ad.nn.caffe.check import check_layer
from agnostic_ad.nn.caffe.convert import load_into
from agnostic_ad.nn.caffe.files import load_caffemodel, weights
from agnostic_ad.nn.caffe.fillers import FILLERS, fill
from agnostic_ad.nn.caffe.layer import LAYERS, Layer, register
from agnostic_ad.nn.caffe.message import DefinitionError, Message
from agnostic_ad.nn.caffe.net import Net
from agnostic_ad.nn.caffe.parse import parse
from agnostic_ad.nn.caffe.solver import Solver
from agnostic_ad.nn.caffe.updates import learning_rate
from agnostic_ad.nn.caffe.wire import decode, encode

__all__ = [
    "FILLERS",
    "LAYERS",
    "Blob",
    "DefinitionError",
    "Layer",
    "Message",
    "ModuleLayer",
    "Net",
    "Solver",
    "as_function",
    "check_layer",
    "decode",
    "encode",
    "fill",
    "layers",
    "learning_rate",
    "load_caffemodel",
    "load_into",
    "parse",
    "register",
    "weights",
]
