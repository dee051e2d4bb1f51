"""Exit 0 where the CUDA driver has a device, otherwise say in one line why not. Needs nothing but Python."""

import ctypes
import sys


def why_not() -> str:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "the CUDA driver (libcuda.so.1) is not installed"
    status = cuda.cuInit(0)
    if status != 0:
        return f"the CUDA driver does not start (cuInit gives {status})"
    count = ctypes.c_int(0)
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return "" if count.value else "the CUDA driver lists no device"


if reason := why_not():
    sys.exit(f"make gpu: no GPU on this machine: {reason}.")
