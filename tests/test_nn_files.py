"""Weights in files: safetensors beside the reference implementation, .npz beside NumPy, .pt files as torch writes them, and hostile ones."""

from __future__ import annotations

import collections
import copyreg
import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.encodings import LAYOUT, FileError

# --- safetensors --------------------------------------------------------------------------------------------------------------------------
PLAIN = [name for name in LAYOUT if name != "complex128" and not name.startswith(("bfloat", "float8"))]


def example(dtype: str, shape: tuple[int, ...] = (2, 3)) -> Any:
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return (numbers % 2 == 0) if dtype == "bool" else (numbers * (1 - 2j) if dtype.startswith("complex") else numbers).astype(dtype)


@pytest.mark.parametrize("dtype", PLAIN)
def test_safetensors_beside_the_reference(dtype: str, tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    state = {"a.b": example(dtype), "scalar": example(dtype, ()), "empty": example(dtype, (0, 3)), "transposed": example(dtype, (3, 2)).T}
    nn.save_file(state, tmp_path / "ours")
    reference.save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, tmp_path / "theirs")
    for found in (reference.load_file(tmp_path / "ours"), nn.load_file(tmp_path / "ours"), nn.load_file(tmp_path / "theirs")):
        assert sorted(found) == sorted(state)
        for name, want in state.items():
            if not (name == "scalar" and found[name].shape == (1,)):  # the reference's writer, of a 0-d array
                assert found[name].shape == want.shape
            assert found[name].dtype == want.dtype
            np.testing.assert_array_equal(found[name].reshape(want.shape), want)
            assert found[name].flags.writeable


def test_safetensors_of_every_library(tmp_path: Path, backend: support.Backend) -> None:
    state = {"x": backend.asarray(np.arange(6.0).reshape(2, 3)[:, ::2], "float32"), "n": backend.asarray(np.asarray([True, False]))}
    nn.save_file({**state, "v": ad.Variable(state["x"])}, tmp_path / "a", metadata={"format": "pt"})
    found = nn.load_file(tmp_path / "a", xp=backend.xp)
    assert type(found["x"]) is type(state["x"]) and found["n"].dtype == state["n"].dtype
    np.testing.assert_array_equal(backend.numpy(found["x"]), [[0, 2], [3, 5]])
    np.testing.assert_array_equal(backend.numpy(found["v"]), [[0, 2], [3, 5]])
    assert nn.load_metadata(tmp_path / "a") == {"format": "pt"}


def test_numbers_of_16_and_8_bits(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("safetensors.torch")
    every = torch.arange(256, dtype=torch.uint8)
    state = {"b": torch.tensor([1.5, -0.0, float("inf"), 3e38], dtype=torch.bfloat16)}
    eights = {"e4": every.view(torch.float8_e4m3fn), "e5": every.clone().view(torch.float8_e5m2)}
    reference.save_file(state, tmp_path / "b")
    nn.save_file(state, tmp_path / "ours")
    for path in (tmp_path / "b", tmp_path / "ours"):
        assert nn.load_file(path)["b"].dtype == np.float32  # which holds every number of bfloat16
        np.testing.assert_array_equal(nn.load_file(path)["b"], state["b"].float())
        assert nn.load_file(path, xp=torch)["b"].dtype == torch.bfloat16
        assert torch.equal(nn.load_file(path, xp=torch)["b"], state["b"])
    reference.save_file(eights, tmp_path / "eights")
    for name, x in nn.load_file(tmp_path / "eights", xp=torch).items():
        assert x.dtype == eights[name].dtype
        np.testing.assert_array_equal(x.float(), eights[name].float())
    with pytest.raises(TypeError, match="load_file: 'e4' has dtype float8_e4m3fn, which numpy cannot hold"):
        nn.load_file(tmp_path / "eights")
    with pytest.raises(TypeError, match=r"'e' has dtype torch\.float8_e5m2, which is not kept"):
        nn.save_file({"e": eights["e5"]}, tmp_path / "c")


@pytest.mark.parametrize("backend", support.params("jax"))
def test_bfloat16_in_jax(backend: support.Backend, tmp_path: Path) -> None:
    x = backend.xp.asarray([1.5, -2.0], dtype="bfloat16")
    nn.save_file({"x": x}, tmp_path / "a")
    found = nn.load_file(tmp_path / "a", xp=backend.xp)["x"]
    assert found.dtype == x.dtype and found.tolist() == [1.5, -2.0]


def test_a_shared_array_and_a_module(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    nn.save_file(tied, tmp_path / "a")
    found = nn.load_file(tmp_path / "a")
    np.testing.assert_array_equal(found["0.weight"], found["1.weight"])
    assert tied.load_state_dict(found) == ([], [])


def test_shards(tmp_path: Path) -> None:
    nn.save_file({"a": np.ones(2), "b": np.zeros(3)}, tmp_path / "m-1.safetensors")
    nn.save_file({"c": np.full(1, 7.0)}, tmp_path / "m-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    names = {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": names}))
    assert {name: x.tolist() for name, x in nn.load_file(index).items()} == {"a": [1, 1], "b": [0, 0, 0], "c": [7]}
    for weight_map, text in [
        ({"z": "m-2.safetensors"}, "m-2.safetensors does not hold z"),
        ({"z": "../m-2.safetensors"}, "is no \\.safetensors file of its own folder"),
        ({"z": "/etc/passwd"}, "is no \\.safetensors file of its own folder"),
        ({"z": index.name}, "is no \\.safetensors file of its own folder"),
        ({"z": 3}, "is no \\.safetensors file of its own folder"),
        ([], "is no index"),
    ]:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(FileError, match=text):
            nn.load_file(index)


def written(tmp_path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "f").write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return tmp_path / "f"


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [
        ({"x": ENTRY}, bytes(7), "it holds 7 bytes of data, where its header tells of 8"),
        ({"x": ENTRY}, bytes(9), "it holds 9 bytes of data"),
        ({"x": ENTRY, "y": ENTRY}, bytes(8), "'y' does not begin where the data before it end"),
        ({"x": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12), "'x' does not begin"),
        ({"x": {**ENTRY, "data_offsets": [-8, 0]}}, bytes(8), "are no sizes"),
        ({"x": {**ENTRY, "shape": [True, 2]}}, bytes(8), "are no sizes"),
        ({"x": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(8), "but 8 bytes"),
        ({"x": {**ENTRY, "shape": [3]}}, bytes(8), r"'x' has shape \(3,\) and dtype F32, but 8 bytes"),
        ({"x": {**ENTRY, "dtype": "F4"}}, bytes(8), "'x' has dtype F4, which is not read here"),
        ({"x": {"dtype": "F32"}}, b"", "does not say dtype, shape and data_offsets of 'x'"),
        ({"x": 3}, b"", "does not say dtype, shape and data_offsets of 'x'"),
        ([], b"", "its header is no JSON object"),
        (b"{", b"", "its header is no JSON "),
        (b'{"x": ' + b"9" * 5000 + b"}", b"", "its header is no JSON "),
        ({"x": {**ENTRY, "shape": [1] * 65}}, bytes(8), "are no sizes"),
        (b"[" * 100_000, b"", "its header is no JSON "),
        (b'{"a": 1, "a": 2}', b"", "a name stands twice"),
        (b"\xff\xfe", b"", "its header is no JSON "),
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: Any, data: bytes, text: str) -> None:
    path = written(tmp_path, header, data)
    with pytest.raises(FileError, match=f"f is no safetensors file, or is damaged: .*{text}"):
        nn.load_file(path)


def test_metadata(tmp_path: Path) -> None:
    safe_open = pytest.importorskip("safetensors").safe_open
    nn.save_file({"x": np.ones(4)}, tmp_path / "a", metadata={"é": "1"})
    with safe_open(tmp_path / "a", "numpy") as file:
        assert file.metadata() == nn.load_metadata(tmp_path / "a") == {"é": "1"}
    assert nn.load_metadata(written(tmp_path, {})) == {}
    for header in ({"__metadata__": 3}, {"__metadata__": {"a": 1}}, []):
        with pytest.raises(FileError, match=r"is damaged: its (metadata are no texts|header is no JSON object)"):
            nn.load_metadata(written(tmp_path, header))


def test_truncated_safetensors(tmp_path: Path) -> None:
    nn.save_file({"x": np.ones(4)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for n in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:n])
        with pytest.raises(FileError, match="is damaged"):
            nn.load_file(tmp_path / "cut")
    with pytest.raises(FileError, match="too few for a header of 9223372036854775807"):
        nn.load_file(written(tmp_path, {}, length=(1 << 63) - 1))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"z": np.ones(2) * 1j}, "'z' has dtype complex128, which is not kept"),
        ({"z": 3}, "'z' is int, and no array"),
        ({"z": np.asarray(["a"])}, "'z' has dtype <U1, which is not kept"),
        ({3: np.ones(2)}, "names are strings, not 3"),
        ([np.ones(2)], "a mapping of names to arrays, or a module; not list"),
        ({"__metadata__": np.ones(2)}, "is no name for an array"),
    ],
)
def test_what_is_not_kept_in_safetensors(tmp_path: Path, state: Any, text: str) -> None:
    (tmp_path / "a").write_bytes(b"as before")
    with pytest.raises((TypeError, ValueError), match=text):
        nn.save_file(state, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"as before" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(TypeError, match="metadata is a mapping of str to str"):
        nn.save_file({}, tmp_path / "a", metadata={"n": 1})


# --- .npz ---------------------------------------------------------------------------------------------------------------------------------
def test_npz(tmp_path: Path, backend: support.Backend) -> None:
    net = nn.Linear(3, 2, xp=backend.xp)
    nn.save_npz(net, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as theirs:
        np.testing.assert_array_equal(theirs["weight"], backend.numpy(net.weight.data))
    found = nn.load_npz(tmp_path / "a.npz", xp=backend.xp)
    assert type(found["bias"]) is type(net.bias.data) and net.load_state_dict(found) == ([], [])


def test_npz_of_numpy(tmp_path: Path) -> None:
    state = {f"x_{name}": example(name) for name in (*PLAIN, "complex128")}
    state |= {"file": np.asfortranarray(example("float64")), "s": np.asarray(1.0), "e": np.ones((0, 2)), "big": np.arange(3, dtype=">i4")}
    for save in (
        lambda path: nn.save_npz(state, path),
        lambda path: np.savez_compressed(path, **{k: v for k, v in state.items() if k != "file"}),
    ):
        save(tmp_path / "a.npz")
        for name, found in nn.load_npz(tmp_path / "a.npz").items():
            assert found.dtype == state[name].dtype.newbyteorder("=") and found.shape == state[name].shape
            np.testing.assert_array_equal(found, state[name])


def test_npz_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.asarray([{}], dtype=object))
    with pytest.raises(FileError, match=r"x\.npy holds objects, which only pickle could read"):
        nn.load_npz(path)
    np.savez(path, x=np.asarray(["a"]))
    with pytest.raises(FileError, match="holds dtype <U1, which is not read here"):
        nn.load_npz(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(FileError, match=r"has shape .* but 0 bytes"):
        nn.load_npz(path)
    nn.save_npz({"x": np.ones(3)}, path)
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(FileError, match=r"is no \.npz file, or is damaged"):
            nn.load_npz(path)
    with pytest.raises(TypeError, match="'x' has dtype bfloat16, which is not kept"):
        nn.save_npz({"x": pytest.importorskip("torch").ones(2).bfloat16()}, path)


# --- .pt: as torch writes it --------------------------------------------------------------------------------------------------------------
FORMATS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5}]


def saved(x: Any, **options: Any) -> io.BytesIO:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(x, file, **options)
    return file


@pytest.mark.parametrize("options", FORMATS)
@pytest.mark.parametrize("name", [n for n in LAYOUT])
def test_every_dtype_of_torch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    numbers = torch.arange(6).reshape(2, 3)
    x = (numbers * (1 - 2j) if dtype.is_complex else numbers).to(dtype)
    for t in (x, x.t(), x[1, 1:], x[0, 0], x[:0]):
        if name.startswith("float8"):
            with pytest.raises(TypeError, match=f"has dtype {name}, which numpy cannot hold"):
                nn.load_torch(saved(t, **options))
        else:
            found = nn.load_torch(saved(t, **options))
            assert type(found) is np.ndarray and found.dtype.name == ("float32" if name == "bfloat16" else name)
            assert found.shape == tuple(t.shape)
            np.testing.assert_array_equal(found, t.float() if name == "bfloat16" else t)
        theirs = nn.load_torch(saved(t, **options), xp=torch)
        assert theirs.dtype == dtype and theirs.shape == t.shape
        np.testing.assert_array_equal(theirs.to(torch.complex128), t.to(torch.complex128))


@pytest.mark.parametrize("options", FORMATS)
def test_a_whole_checkpoint(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 2)).double()
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3])
    model(torch.randn(5, 3, 4, 4, dtype=torch.float64)).sum().backward()
    optimizer.step()
    schedule.step()
    given = {
        "model": model.state_dict(),
        "parameters": list(model.parameters()),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
        "huge": 1 << 80,
        "loss": 0.25,
        "name": "é",
        "bytes": b"\x00\xff",
        "array": bytearray(b"ab"),
        "flags": (True, False, None, 1j, -1, 70000, -(1 << 40)),
        "sets": [{1, 2}, frozenset({"a"})],
        "nested": {"empty": [{}, [], (), set()], (1, "b"): 2},
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cuda", 1),
        "random": torch.get_rng_state(),
        "numpy": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), "int8")), np.float64(1.5), np.arange(2, dtype=">f4")],
        "ordered": collections.OrderedDict(b=1, a=2),
    }
    found = nn.load_torch(saved(given, **options))
    for name, p in given["model"].items():
        np.testing.assert_array_equal(found["model"][name], p)
    assert found["model"]._metadata[""]["version"] == 1
    for ours, theirs in zip(found["parameters"], given["parameters"], strict=True):
        np.testing.assert_array_equal(ours, theirs.detach())
    for i, state in given["optimizer"]["state"].items():
        assert list(found["optimizer"]["state"][i]) == list(state)
        for key, x in state.items():
            np.testing.assert_array_equal(found["optimizer"]["state"][i][key], x)
    assert found["optimizer"]["param_groups"] == given["optimizer"]["param_groups"]
    assert {**found["schedule"], "milestones": 0} == {**given["schedule"], "milestones": 0}
    assert found["schedule"]["milestones"] == {1: 1, 3: 1}
    same = ["epoch", "huge", "loss", "name", "bytes", "array", "flags", "sets", "nested", "ordered"]
    assert {name: found[name] for name in same} == {name: given[name] for name in same}
    assert (found["size"], found["dtype"], found["device"]) == ((2, 3), "float16", "cuda:1")
    np.testing.assert_array_equal(found["random"], given["random"])
    for ours, theirs in zip(found["numpy"], given["numpy"], strict=True):
        assert type(ours) is type(theirs) and ours.dtype == theirs.dtype.newbyteorder("=")
        np.testing.assert_array_equal(ours, theirs)
    assert list(found["ordered"]) == ["b", "a"]


@pytest.mark.parametrize("options", FORMATS)
def test_views_strides_and_shared_storages(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(24.0).reshape(2, 3, 4)
    given = [x, x.permute(2, 0, 1), x[:, 1:, ::2], x[1, 2, 3], torch.ones(1, 3).expand(4, 3), torch.empty(0, 3)]
    found = nn.load_torch(saved(given, **options))
    for ours, theirs in zip(found, given, strict=True):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_array_equal(ours, theirs)
    found[0][1, 2, 3] = -5.0
    assert found[3][()] == -5.0  # one memory, as it was


def test_conjugate_and_negative() -> None:
    torch = pytest.importorskip("torch")
    z = torch.tensor([1 + 2j, 3 - 1j])
    np.testing.assert_array_equal(nn.load_torch(saved(z.conj())), [1 - 2j, 3 + 1j])
    np.testing.assert_array_equal(nn.load_torch(saved(z.conj().imag)), [-2, 1])


def test_into_every_library(backend: support.Backend, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(3, 2)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    found = nn.load_torch(tmp_path / "a.pt", xp=backend.xp)
    assert type(found["weight"]) is type(backend.asarray(0.0))
    ours = nn.Linear(3, 2, xp=backend.xp)
    assert ours.load_state_dict(found) == ([], [])
    np.testing.assert_array_equal(backend.numpy(ours.weight.data), theirs.weight.detach())


def rewritten(file: io.BytesIO, **changes: bytes | None) -> io.BytesIO:
    """Write a zip file of torch.save again, with some members changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            key = name.partition("/")[2].replace("/", "_").replace(".", "_")
            data = changes.get(key, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return out


@pytest.mark.parametrize("name", ["int16", "float64", "bfloat16", "complex64"])
def test_the_other_order_of_bytes(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(3).to(getattr(torch, name))
    size = x.element_size() // (2 if x.is_complex() else 1)
    swapped = b"".join(data[::-1] for data in (bytes(x.view(torch.uint8).numpy())[i : i + size] for i in range(0, x.nbytes, size)))
    found = nn.load_torch(rewritten(saved(x), data_0=swapped, byteorder=b"big"))
    np.testing.assert_array_equal(found, [0, 1, 2])
    with pytest.raises(FileError, match="its order of bytes is b'middle'"):
        nn.load_torch(rewritten(saved(x), byteorder=b"middle"))


@pytest.mark.parametrize("options", FORMATS)
def test_truncated_files_of_torch(options: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    whole = saved({"x": torch.arange(5.0), "y": [1, 2]}, **options).getvalue()
    for n in range(0, len(whole), 3):
        with pytest.raises(FileError, match=r"is not read|is damaged|is no file of torch\.save"):
            nn.load_torch(io.BytesIO(whole[:n]))
    (tmp_path / "a.pt").write_bytes(b"no such thing")
    with pytest.raises(FileError, match=r"a\.pt is no file of torch\.save \(its first bytes are b'no s'\)"):
        nn.load_torch(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        nn.load_torch(tmp_path / "b.pt")


def test_flipped_bytes() -> None:
    """Whatever stands in a file: an error of one kind, or data."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for options in FORMATS:
        whole = saved({"x": torch.arange(5.0), "n": np.arange(3), "o": collections.OrderedDict(a=1)}, **options).getvalue()
        refused = 0
        for _ in range(400):
            data = bytearray(whole)
            data[rng.integers(len(data))] = rng.integers(256)
            try:
                nn.load_torch(io.BytesIO(data))
            except FileError:
                refused += 1
        assert refused > 40


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda torch: torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear, which is not read here"),
        (lambda torch: {"s": torch.eye(2).to_sparse()}, r"torch\._utils\._rebuild_sparse_tensor"),
        (lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), r"torch\._utils\._rebuild_qtensor|QInt8Storage"),
        (lambda torch: {"path": Path("a")}, r"pathlib\."),
        (lambda torch: collections.defaultdict(list), r"collections\.defaultdict"),
        (lambda torch: np.asarray([{}], dtype=object), "a NumPy array of dtype 'O8'"),
        (lambda torch: np.zeros(2, dtype="i4,f8"), "a NumPy array of dtype 'V12'"),
        (lambda torch: np.asarray(["a"]), "a NumPy array of dtype 'U1'"),
        (lambda torch: np.ones(2).view(np.matrix), r"numpy\.matrix"),
        (lambda torch: np.random.default_rng(0), r"numpy\.random"),
        (lambda torch: torch.ones(2, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (lambda torch: print, "builtins.print|__builtin__.print"),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # torch speaks of its own future
@pytest.mark.parametrize("options", FORMATS[:2])
def test_what_else_torch_saves_is_refused_by_name(make: Any, text: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(FileError, match=text):
        nn.load_torch(saved(make(torch), **options))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    with pytest.raises(FileError, match="it holds a TorchScript program"):
        nn.load_torch(out)
    with pytest.raises(FileError, match=r"a zip archive, but not one of torch\.save"):
        nn.load_torch(rewritten(out, data_pkl=None))


# --- .pt: hostile -------------------------------------------------------------------------------------------------------------------------
class Calls:
    """Pickles as the call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def hostile(pickled: bytes, legacy: bool = False) -> io.BytesIO:
    """A file of torch.save around a pickle."""
    if legacy:
        before = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        return io.BytesIO(before + pickled + pickle.dumps([], 2))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", bytes(16))
    return out


def text(s: str) -> bytes:
    return b"\x8c" + bytes([len(s)]) + s.encode()


TRICKS = {
    "reduce": lambda mark: pickle.dumps(Calls(os.system, (f"touch {mark}",)), 2),
    "reduce in protocol 0": lambda mark: pickle.dumps(Calls(os.system, (f"touch {mark}",)), 0),
    "reduce in protocol 5": lambda mark: pickle.dumps(Calls(os.system, (f"touch {mark}",)), 5),
    "eval": lambda mark: pickle.dumps(Calls(eval, (f"open({str(mark)!r}, 'w').close()",)), 2),
    "exec": lambda mark: pickle.dumps(Calls(exec, (f"open({str(mark)!r}, 'w').close()",)), 4),
    "getattr": lambda mark: pickle.dumps(Calls(getattr, ("", "format")), 2),
    "deep inside": lambda mark: pickle.dumps({"state": [collections.OrderedDict(a=({}, Calls(os.system, (f"touch {mark}",))))]}, 2),
    "instance": lambda mark: b"(S'touch %b'\nios\nsystem\n." % str(mark).encode(),
    "object": lambda mark: b"(cos\nsystem\nS'touch %b'\no." % str(mark).encode(),
    "new object": lambda mark: b"\x80\x02cos\nsystem\nU" + bytes([len(str(mark)) + 6]) + b"touch %b\x85\x81." % str(mark).encode(),
    "new object with keywords": lambda mark: b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}\x92.",
    "computed name": lambda mark: b"\x80\x04" + text("os") + text("system") + b"\x93" + text(f"touch {mark}") + b"\x85R.",
    "name of no string": lambda mark: b"\x80\x04)" + text("system") + b"\x93.",
    "dotted name": lambda mark: b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.",
    "dotted name of numpy": lambda mark: b"\x80\x04" + text("numpy") + text("ndarray.tofile") + b"\x93.",
    "name after the table's": lambda mark: b"\x80\x02ccollections\nOrderedDict system\n.",
    "nested load": lambda mark: b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x00\x85R.",
    "pickle.loads": lambda mark: b"\x80\x02c_pickle\nloads\nC\x00\x85R.",
    "codecs": lambda mark: b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.",
    "call of data": lambda mark: b"\x80\x02]X\x01\x00\x00\x00a\x85R.",
    "call of a storage type": lambda mark: b"\x80\x02ctorch\nFloatStorage\nK\x04\x85R.",
    "call of ndarray": lambda mark: b"\x80\x02cnumpy\nndarray\nK\x04\x85R.",
    "arguments of no tuple": lambda mark: b"\x80\x02ccollections\nOrderedDict\n]R.",
    "state of a list": lambda mark: b"\x80\x02]}X\x0c\x00\x00\x00__setstate__K\x01sb.",
    "state of a name": lambda mark: b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00nameK\x01sb.",
    "state of a dtype": lambda mark: (
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R(K\x04X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}tb."
    ),
    "dtype of objects": lambda mark: b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
    "dtype of a list": lambda mark: b"\x80\x02cnumpy\ndtype\n]\x85R.",
    "subclass of ndarray": lambda mark: b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\nK\x00\x85C\x01b\x87R.",
    "other persistent id": lambda mark: b"\x80\x02X\x06\x00\x00\x00moduleQ.",
    "persistent id as text": lambda mark: b"Pmodule\n.",
    "buffers of another file": lambda mark: b"\x80\x05\x97.",
    "no mark": lambda mark: b"\x80\x02K\x01t.",
    "empty stack": lambda mark: b"\x80\x020.",
    "something left": lambda mark: b"\x80\x02K\x01K\x02.",
    "memo without": lambda mark: b"\x80\x02h\x05.",
    "mark as result": lambda mark: b"\x80\x02(.",
    "no end": lambda mark: b"\x80\x02K\x01",
    "odd items": lambda mark: b"\x80\x02}(K\x01u.",
    "list as key": lambda mark: b"\x80\x02}]K\x01s.",
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_is_executed(trick: str, legacy: bool, tmp_path: Path) -> None:
    mark = tmp_path / "m"
    file = hostile(TRICKS[trick](mark), legacy)
    with pytest.raises(FileError):
        nn.load_torch(file)
    assert not mark.exists()


@pytest.mark.parametrize("trick", ["reduce", "reduce in protocol 0", "eval", "exec", "instance", "object", "computed name"])
def test_the_tricks_work_on_the_unpickler_of_python(trick: str, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    mark = tmp_path / "m"
    pickle.loads(TRICKS[trick](mark))
    assert mark.exists()


def test_the_refusal_names_what_it_was() -> None:
    for make, text in [
        (Calls(os.system, ("true",)), r"the file is not read: it holds (posix|nt)\.system, which is not read here"),
        (Calls(eval, ("1",)), r"it holds (builtins|__builtin__)\.eval, "),
    ]:
        with pytest.raises(FileError, match=text):
            nn.load_torch(hostile(pickle.dumps(make, 2)))
    with pytest.raises(FileError, match=r"os\\x1b\[31m\.system"):  # nothing that a terminal would obey
        nn.load_torch(hostile(b"\x80\x02cos\x1b[31m\nsystem\n."))


def test_the_registry_of_extensions_is_not_asked(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 0xE1)
    try:
        trick = pickle.dumps(Calls(os.system, ("true",)), 2).replace(b"cposix\nsystem\n", b"\x82\xe1")
        assert b"\x82\xe1" in trick
        pickle.loads(b"\x80\x02\x82\xe1.")  # now it is cached, and find_class is no longer asked
        with pytest.raises(FileError, match="the pickle instruction EXT1"):
            nn.load_torch(hostile(trick))
    finally:
        copyreg.remove_extension("os", "system", 0xE1)
        copyreg._extension_cache.clear()  # type: ignore[attr-defined]


def tensor(
    shape: str = "K\x04\x85", stride: str = "K\x01\x85", offset: str = "K\x00", kind: str = "FloatStorage", size: str = "K\x04"
) -> bytes:
    """A pickle of one tensor, by protocol 2; the storage has 16 bytes."""
    parts = (
        "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n",
        kind,
        "\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu",
    )
    return "".join((*parts, size, "tQ", offset, shape, stride, "\x89ccollections\nOrderedDict\n)RtR.")).encode("latin1")


def test_the_tensor_of_the_next_test_is_well_made() -> None:
    assert nn.load_torch(hostile(tensor())).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": "K\x05\x85"}, "leaves its storage of 4 numbers"),
        ({"offset": "K\x01"}, "leaves its storage of 4 numbers"),
        ({"stride": "K\x02\x85"}, "leaves its storage of 4 numbers"),
        ({"shape": "K\x02K\x02\x86"}, "has 2 sizes and 1 strides"),
        ({"offset": "J\xff\xff\xff\xff"}, "no tuple of numbers"),
        ({"stride": "J\xff\xff\xff\xff\x85"}, "no tuple of numbers"),
        ({"shape": "\x88\x85"}, "no tuple of numbers"),
        ({"shape": "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85"}, "no tuple of numbers"),
        ({"shape": "K\x04]\x86", "stride": "K\x01]\x86"}, "no tuple of numbers"),
        ({"size": "K\x05"}, "storage 0 has 16 bytes, where 20 are wanted"),
        ({"size": "K\x03"}, "storage 0 has 16 bytes, where 12 are wanted"),
        ({"size": "J\xff\xff\xff\xff"}, "a storage without key and size"),
        ({"kind": "ComplexFloatStorage"}, "where 32 are wanted"),
        ({"kind": "QInt8Storage"}, r"torch\.QInt8Storage"),
        # 2 ** 40 numbers in 16 bytes
        ({"shape": "\x8a\x06\x00\x00\x00\x00\x00\x01\x85", "stride": "K\x00\x85"}, "its arrays are larger than it by far"),
    ],
)
def test_arrays_that_leave_their_storage(change: dict[str, str], text: str) -> None:
    with pytest.raises(FileError, match=text):
        nn.load_torch(hostile(tensor(**change)))


def tar_of(**members: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out


class TarPickler(pickle.Pickler):
    def persistent_id(self, x: Any) -> Any:
        return str(x.key) if isinstance(x, Tensor) else None


class Tensor:
    def __init__(self, key: int) -> None:
        self.key = key


def triple(key: int, second: bytes, name: str) -> bytes:
    return b"\x80\x02" + b"J" + struct.pack("<i", key) + second + b"ctorch\n" + name.encode() + b"\n\x87."


def old_tar(
    sizes: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (1, 2), offset: int = 1, part: tuple[int, int] = (2, 4)
) -> io.BytesIO:
    """What PyTorch 0.1 wrote: one storage of 8 numbers, a part of it, and a tensor of each."""
    location = b"X\x03\x00\x00\x00cpu"
    numbers = np.arange(8, dtype="<f4").tobytes()
    storages = pickle.dumps(1, 2) + triple(7, location, "FloatStorage") + struct.pack("<q", 8) + numbers
    storages += pickle.dumps([(8, 7, *part)], 2)
    tensors = pickle.dumps(2, 2)
    for key, storage, size, stride, begin in ((9, 7, sizes, strides, offset), (10, 8, (2,), (2,), 1)):
        tensors += triple(key, b"K" + bytes([storage]), "FloatTensor") + struct.pack("<ii", len(size), 0)
        tensors += struct.pack(f"<{2 * len(size) + 1}q", *size, *stride, begin)
    out = io.BytesIO()
    TarPickler(out, 2).dump(collections.OrderedDict(whole=Tensor(9), part=Tensor(10), epoch=3))
    return tar_of(sys_info=pickle.dumps({}, 2), pickle=out.getvalue(), storages=storages, tensors=tensors)


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar:DeprecationWarning")  # torch.load's
def test_tar_files(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "a.pt").write_bytes(old_tar().getvalue())
    found, want = nn.load_torch(tmp_path / "a.pt"), torch.load(tmp_path / "a.pt", weights_only=False)
    assert list(found) == list(want) and found["epoch"] == 3
    for key in ("whole", "part"):
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], want[key])
    assert found["part"].tolist() == [3, 5]
    found["whole"][0, 1] = -1.0  # one memory: number 3
    assert found["part"][0] == -1.0


def test_tar_files_that_are_refused() -> None:
    whole = old_tar().getvalue()
    for n in range(0, whole.rindex(b"tensors\0") + 600, 97):  # behind the header of the last member, its first bytes
        with pytest.raises(FileError, match=r"is not read|is damaged|is no file of torch\.save"):
            nn.load_torch(io.BytesIO(whole[:n]))
    for options, text in [
        ({"sizes": (2, 4)}, "leaves its storage of 8 numbers"),
        ({"offset": -1}, "no tuple of numbers"),
        ({"part": (2, 7)}, "a part leaves storage 7"),
        ({"part": (-1, 2)}, "no tuple of numbers"),
    ]:
        with pytest.raises(FileError, match=text):
            nn.load_torch(old_tar(**options))
    trick = tar_of(storages=pickle.dumps(Calls(os.system, ("true",)), 2), tensors=b"", pickle=b"")
    with pytest.raises(FileError, match=r"it holds (posix|nt)\.system"):
        nn.load_torch(trick)
    with pytest.raises(FileError, match="'storages' not found"):
        nn.load_torch(tar_of(a=b"1"))


def test_a_part_of_a_storage_in_the_older_format() -> None:
    torch = pytest.importorskip("torch")
    file = saved(torch.arange(8.0), **FORMATS[1]).getvalue()
    part = b"(X\x01\x00\x00\x00vK\x02K\x06t"  # 6 numbers from the third on
    changed = file.replace(b"K\x08Ntq", b"K\x08" + part + b"tq").replace(b"K\x08\x85", b"K\x06\x85")
    assert len(changed) == len(file) + len(part) - 1
    np.testing.assert_array_equal(nn.load_torch(io.BytesIO(changed)), np.arange(2.0, 8.0))
    np.testing.assert_array_equal(torch.load(io.BytesIO(changed), weights_only=False), np.arange(2.0, 8.0))
    with pytest.raises(FileError, match="leaves its storage of 6 numbers"):
        nn.load_torch(io.BytesIO(changed.replace(b"K\x06\x85", b"K\x07\x85")))
    with pytest.raises(FileError, match="a part leaves storage"):
        nn.load_torch(io.BytesIO(changed.replace(b"K\x02K\x06t", b"K\x02K\x07t")))


LAUGHS = b"".join((b"\x80\x02)", b"2\x86" * 60))  # a tuple of 2 ** 60 parts, by reference


@pytest.mark.parametrize(
    ("pickled", "text"),
    [
        (b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"a.", "is damaged"),  # bytes
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"a.", "is damaged"),  # bytearray
        (b"\x80\x05\x8d" + struct.pack("<Q", 1 << 62) + b"a.", "is damaged"),  # text
        (b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"a.", "is damaged"),  # a number
        (b"\x80\x02I" + b"9" * 100_000 + b"\n.", "is damaged"),
        (LAUGHS + b"\x85cbuiltins\nset\n." + b"", "leaves something"),
        (b"\x80\x02}" + LAUGHS[2:] + b"K\x01s.", "as a key, or in a set"),
        (b"\x80\x02cbuiltins\nset\n(" + LAUGHS[2:] + b"l\x85R.", "as a key, or in a set"),
        (b"\x80\x02cnumpy\ndtype\n" + LAUGHS[2:] + b"\x85R.", "dtype something of type tuple"),
        (LAUGHS + LAUGHS[2:] + b"b.", "a state for an object of type tuple"),
        # one thing of 100,000 bytes, copied 10,000 times
        (
            b"\x80\x04]B" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x000(" + b"cbuiltins\nbytearray\nh\x00\x85R" * 10_000 + b"e.",
            "copies the same data",
        ),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_small_files_take_neither_memory_nor_time(pickled: bytes, text: str, legacy: bool) -> None:
    start = time.process_time()
    with pytest.raises(FileError, match=text):
        nn.load_torch(hostile(pickled, legacy))
    assert time.process_time() - start < 5


def test_a_memo_of_large_numbers_takes_no_memory() -> None:
    assert nn.load_torch(hostile(b"\x80\x02K\x07r\xff\xff\xff\x7f.")) == 7


def test_archives_that_lie() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", tensor())
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(FileError, match=r"data\.pkl is compressed"):
        nn.load_torch(out)
    whole = hostile(tensor()).getvalue()
    with pytest.raises(FileError, match="data/0 is missing"):
        nn.load_torch(rewritten(io.BytesIO(whole), data_0=None))
    damaged = bytearray(whole)
    damaged[whole.index(b"a/data/0") + len("a/data/0")] ^= 1
    with pytest.raises(FileError, match="Bad CRC-32"):
        nn.load_torch(io.BytesIO(damaged))
    claims = bytearray(whole)
    at = claims.rindex(b"a/data/0") - 46 + 20  # the sizes in the central directory
    claims[at : at + 8] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    with pytest.raises(FileError, match="larger than the file"):
        nn.load_torch(io.BytesIO(claims))
