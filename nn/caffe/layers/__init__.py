"""The layers, by what they are for."""

from agnostic_ad.nn.caffe.layers import combining, common, data, loss, neuron, recurrent, utility, vision

__all__ = ["combining", "common", "data", "loss", "neuron", "recurrent", "utility", "vision"]
