"""A library that lacks a function, raises, hangs, dies, and gives arrays of another library."""

import os
import sys
import time

import numpy as np

from toys.tiny import fill

fill(sys.modules[__name__])
delattr(sys.modules[__name__], "floor")


def sin(x, /):
    raise RuntimeError("no sines today")


def cos(x, /):
    time.sleep(1000)


def tan(x, /):
    os._exit(3)


def exp(x, /):
    return np.exp(x.data)
