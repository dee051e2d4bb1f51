"""Neural networks on agnostic_ad, under the names of ``torch.nn``."""

from agnostic_ad.nn import (
    activation,
    adaptive,
    amp,
    attention,
    caffe,
    class_loss,
    containers,
    conv,
    data,
    distance,
    dropout,
    fold,
    functional,
    init,
    lazy,
    linear,
    loss,
    margin_loss,
    normalization,
    optim,
    padding,
    parameter_containers,
    pooling,
    recurrent,
    recurrent_cells,
    sparse,
    stateless,
    summaries,
    trainer,
    transformer,
    utils,
    vision,
)
from agnostic_ad.nn.activation import *
from agnostic_ad.nn.adaptive import *
from agnostic_ad.nn.attention import *
from agnostic_ad.nn.class_loss import *
from agnostic_ad.nn.containers import *
from agnostic_ad.nn.conv import *
from agnostic_ad.nn.distance import *
from agnostic_ad.nn.dropout import *
from agnostic_ad.nn.fold import *
from agnostic_ad.nn.lazy import *
from agnostic_ad.nn.linear import *
from agnostic_ad.nn.loss import *
from agnostic_ad.nn.margin_loss import *
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.normalization import *
from agnostic_ad.nn.padding import *
from agnostic_ad.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
from agnostic_ad.nn.parameter_containers import *
from agnostic_ad.nn.pooling import *
from agnostic_ad.nn.recurrent import *
from agnostic_ad.nn.recurrent_cells import *
from agnostic_ad.nn.serialization import load_file, load_metadata, load_npz, save_file, save_npz
from agnostic_ad.nn.sparse import *
from agnostic_ad.nn.stateless import *
from agnostic_ad.nn.summaries import *
from agnostic_ad.nn.torch_files import load_torch
from agnostic_ad.nn.trainer.trainer import Trainer
from agnostic_ad.nn.transformer import *
from agnostic_ad.nn.vision import *

__all__ = ["Buffer", "Module", "Parameter", "Trainer", "amp", "caffe", "data", "functional", "init", "optim", "trainer", "utils"]
__all__ += ["load_file", "load_metadata", "load_npz", "load_torch", "save_file", "save_npz"]
__all__ += ["UninitializedBuffer", "UninitializedParameter"]
__all__ += activation.__all__
__all__ += adaptive.__all__
__all__ += attention.__all__
__all__ += class_loss.__all__
__all__ += containers.__all__
__all__ += conv.__all__
__all__ += distance.__all__
__all__ += dropout.__all__
__all__ += fold.__all__
__all__ += lazy.__all__
__all__ += linear.__all__
__all__ += loss.__all__
__all__ += margin_loss.__all__
__all__ += normalization.__all__
__all__ += padding.__all__
__all__ += parameter_containers.__all__
__all__ += pooling.__all__
__all__ += recurrent.__all__
__all__ += recurrent_cells.__all__
__all__ += sparse.__all__
__all__ += stateless.__all__
__all__ += summaries.__all__
__all__ += transformer.__all__
__all__ += vision.__all__
