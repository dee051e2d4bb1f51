"""Snapshots of solvers: files of the parameters, and of the solver's own state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.files import from_proto, hdf5, host, is_hdf5, load_caffemodel, same_up_to_ones, to_proto
from agnostic_ad.nn.caffe.message import DefinitionError, Message
from agnostic_ad.nn.caffe.updates import steps_done
from agnostic_ad.nn.caffe.wire import encode

if TYPE_CHECKING:
    from agnostic_ad.nn.caffe.solver import Solver

__all__ = ["check_writable", "prefix", "read", "write"]


def prefix(param: Message) -> str:
    """Give what the names of snapshots begin with: what is said, else the solver's own file without its ending."""
    own = os.path.splitext(param.file())[0]
    said: str = param.snapshot_prefix or own
    return os.path.join(said, os.path.basename(own) or "snapshot") if said and os.path.isdir(said) else said


def check_writable(param: Message) -> None:
    """Refuse a folder of snapshots that is not there or cannot be written to, before hours of training."""
    folder = Path(prefix(param)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DefinitionError(
            f"{param.at()}snapshots cannot be written to {prefix(param)!r}: make the folder {os.fspath(folder)!r}, or say another"
        )


def write(solver: Solver) -> Path:
    """Write both files; give that of the state."""
    param = solver.param
    if not prefix(param):
        raise DefinitionError(f"{param.at()}a snapshot needs snapshot_prefix, what the names of its files begin with")
    check_writable(param)
    ending = ".h5" if param.snapshot_format == "HDF5" else ""
    base = f"{prefix(param)}_iter_{solver.iter}"
    model, state = f"{base}.caffemodel{ending}", Path(f"{base}.solverstate{ending}")
    solver.net.save(model, param.snapshot_diff)
    history = [blob for kept in solver.history for blob in kept]
    step = steps_done(param, solver.iter)
    if ending:
        with hdf5(state, "w", "a snapshot in HDF5") as file:
            file["iter"], file["learned_net"], file["current_step"] = solver.iter, model, step
            group = file.require_group("history")
            for i, blob in enumerate(history):
                group[str(i)] = host(blob.data)
    else:
        made = Message("SolverState", iter=solver.iter, learned_net=model, current_step=step)
        made.history = [to_proto(blob) for blob in history]
        state.write_bytes(encode(made))
    solver.log(f"Snapshot of iteration {solver.iter}: {model}, {state}")
    return state


def read(solver: Solver, path: Any) -> None:
    """Take over what the files of a snapshot hold."""
    if is_hdf5(path):
        with hdf5(path, "r", "a snapshot in HDF5") as file:
            count, model = int(file["iter"][()]), file["learned_net"].asstr()[()] if "learned_net" in file else ""
            arrays = [file["history"][str(i)][()] for i in range(len(file["history"]))]
    else:
        state = load_caffemodel(path, "SolverState")
        count, model, arrays = state.iter or 0, state.learned_net, [from_proto(h) for h in state.history]
    history: list[Blob] = [blob for kept in solver.history for blob in kept]
    if len(arrays) != len(history):
        raise DefinitionError(
            f"{path}: it holds {len(arrays)} arrays of history, and this solver ({solver.param.type}) of this net has {len(history)}"
        )
    for blob, array in zip(history, arrays):
        if not same_up_to_ones(array.shape, blob.shape):
            raise DefinitionError(f"{path}: the history of {blob.name!r} has shape {array.shape}, and the parameter {blob.shape}")
    if model:
        solver.net.copy_from(model if Path(model).is_file() else Path(path).parent / Path(model).name)
    for blob, array in zip(history, arrays):
        blob.data = array.reshape(blob.shape)
    solver.iter = count
