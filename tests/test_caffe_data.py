"""Data layers of nn.caffe: arrays, fillers, HDF5, images, LMDB, layers of one's own; and arrays in their place."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.nn import caffe


def build(text: str, phase: str = "TRAIN", **options: Any) -> caffe.Net:
    return caffe.Net(text, phase, **{"dtype": "float64", "generator": ad.Generator(0), **options})


def batches(net: caffe.Net, count: int, *names: str) -> list[Any]:
    """Run a net several times; give what each blob held."""
    found: list[Any] = [[] for _ in names]
    for _ in range(count):
        net.forward()
        for kept, name in zip(found, names, strict=True):
            kept.append(np.asarray(net.blobs[name].data).copy())
    return found


# --- Input, MemoryData, arrays in the place of data layers -----------------------------------------------------------------------------------
MEMORY = 'layer { name: "m" type: "MemoryData" top: "x" top: "t" %s memory_data_param { batch_size: 3 %s } }'


def test_input_shapes() -> None:
    text = 'layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } %s } }'
    assert [b.shape for b in build(text % "").blobs.values()] == [(2,), (2,)]
    assert [b.shape for b in build(text % "shape { dim: 3 dim: 4 }").blobs.values()] == [(2,), (3, 4)]
    with pytest.raises(caffe.DefinitionError, match="a shape is given once or for each of 2 tops, not 3 times"):
        build(text % "shape {} shape {}")


def test_arrays_over_and_over(backend: support.Backend) -> None:
    x, t = np.arange(8.0).reshape(4, 2), np.arange(4)
    net = build(MEMORY % ("", ""), inputs={"x": backend.asarray(x), "t": backend.asarray(t)}, xp=backend.xp)
    assert net.inputs == []
    assert net.blobs["x"].shape == (3, 2)
    seen = []
    for _ in range(3):
        net.forward()
        assert_exact(backend.numpy(net.blobs["x"].data)[:, 0], 2 * backend.numpy(net.blobs["t"].data))
        seen += list(backend.numpy(net.blobs["t"].data))
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_feed() -> None:
    net = build(MEMORY % ("", "channels: 1 height: 2 width: 2"))
    assert [b.shape for b in net.blobs.values()] == [(3, 1, 2, 2), (3,)]
    with pytest.raises(
        caffe.DefinitionError, match=r"<text>:1: layer 'm' \(MemoryData\): there are no examples yet: give arrays as inputs="
    ):
        net.forward()
    layer = net.layer_dict["m"]
    layer.feed(np.ones((3, 1, 2, 2)), np.asarray([5, 6, 7]))
    net.forward()
    assert_exact(net.blobs["t"].data, np.asarray([5.0, 6.0, 7.0]))
    for arrays, message in (
        ((np.ones((3, 1, 2, 3)), np.ones(3)), r"images of shape \(1, 2, 2\) are wanted, as memory_data_param says, not \(1, 2, 3\)"),
        ((np.ones((3, 1, 2, 2)), np.ones(2)), r"as many examples are wanted, one or more, not of shapes \(3, 1, 2, 2\), \(2,\)"),
        ((np.ones((0, 1, 2, 2)), np.ones(0)), "as many examples are wanted, one or more"),
        ((np.ones((3, 1, 2, 2)),), r"an array for each of its tops is wanted \(x, t\), not 1 arrays"),
    ):
        with pytest.raises(caffe.DefinitionError, match=message):
            layer.feed(*arrays)
    with pytest.raises(caffe.DefinitionError, match=r"layer 'i' \(Input\): it reads no arrays"):
        build('layer { name: "i" type: "Input" top: "a" }').layers[0].feed(np.ones(2))


DATA = """layer { name: "d" type: "Data" top: "x" top: "t" include { phase: TRAIN } transform_param { scale: 0.5 }
  data_param { source: "nowhere" batch_size: 2 backend: LMDB } }
layer { name: "d" type: "ImageData" top: "x" top: "t" include { phase: TEST } image_data_param { source: "nowhere" } }"""


def test_in_the_place_of_a_database() -> None:
    arrays = {"x": np.full((5, 1, 2, 2), 4, dtype="uint8"), "t": list(range(5))}
    net = build(DATA, inputs=arrays)
    assert net.blobs["x"].shape == (2, 1, 2, 2)
    net.forward()
    assert_exact(net.blobs["x"].data, np.full((2, 1, 2, 2), 2.0))
    assert build(DATA, "TEST", inputs=arrays).blobs["t"].shape == (1,)
    shaped = build(DATA, inputs={"x": (7, 1, 2, 2), "t": (7,)})
    assert shaped.inputs == ["x", "t"]
    assert shaped.blobs["x"].shape == (7, 1, 2, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": (2, 2)}, "<text>:1: inputs of layer 'd' (Data): 't' is missing: a value is wanted for each of its tops"),
        ({"x": (2, 2), "t": np.ones(3)}, "shapes for all of its tops are wanted, or arrays for all, not some of each"),
        ({"X": (2, 2)}, "inputs: no data layer of this phase makes 'X' (did you mean 'x'?); they make: x, t"),
    ],
)
def test_wrong_inputs(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        build(DATA, inputs=inputs)
    assert message in str(error.value)


def test_arrays_need_a_batch_size() -> None:
    text = 'layer { name: "i" type: "Input" top: "x" %s }'
    assert build(text % "input_param { shape { dim: 4 dim: 2 } }", inputs={"x": np.ones((9, 2))}).blobs["x"].shape == (4, 2)
    with pytest.raises(caffe.DefinitionError, match=r"layer 'i' \(Input\) says no batch_size: give shapes as inputs, not arrays"):
        build(text % "", inputs={"x": np.ones((9, 2))})


# --- transformations --------------------------------------------------------------------------------------------------------------------------
IMAGES = np.arange(2 * 2 * 4 * 5).reshape(2, 2, 4, 5).astype("uint8")


def transformed(how: str, phase: str = "TEST", count: int = 1, images: Any = IMAGES) -> Any:
    net = build(
        MEMORY.replace("batch_size: 3", "batch_size: 2") % (f"transform_param {{ {how} }}", ""), phase, inputs={"x": images, "t": [0, 1]}
    )
    return batches(net, count, "x")[0]


def test_scale_and_mean(tmp_path: Path) -> None:
    assert_exact(transformed("scale: 0.25")[0], IMAGES * 0.25)
    assert_exact(transformed("scale: 0.5 mean_value: 3")[0], (IMAGES - 3.0) / 2)
    assert_exact(transformed("mean_value: 3 mean_value: 5")[0], IMAGES - np.asarray([3.0, 5.0])[:, None, None])
    mean = np.arange(40.0).reshape(2, 4, 5)
    proto = caffe.Message("BlobProto", num=1, channels=2, height=4, width=5, data=list(mean.ravel()))
    (tmp_path / "mean.binaryproto").write_bytes(caffe.encode(proto))
    where = f"mean_file: '{tmp_path / 'mean.binaryproto'}'"
    assert_exact(transformed(where)[0], IMAGES - mean)
    assert_exact(transformed(where + " crop_size: 2")[0], (IMAGES - mean)[:, :, 1:3, 1:3])
    with pytest.raises(
        caffe.DefinitionError, match=r"there is no file 'nowhere', its mean_file; change transform_param in what caffe.parse gives"
    ):
        transformed("mean_file: 'nowhere'")
    with pytest.raises(caffe.DefinitionError, match="mean_file and mean_value are both given"):
        transformed(where + " mean_value: 1")
    with pytest.raises(caffe.DefinitionError, match=r"the mean in mean_file has shape \(2, 4, 5\), and images \(2, 4, 4\)"):
        transformed(where, images=IMAGES[..., :4])


def test_crops() -> None:
    assert_exact(transformed("crop_size: 3")[0], IMAGES[:, :, 0:3, 1:4].astype("float64"))
    places = set()
    for batch in transformed("crop_size: 3", "TRAIN", 40):
        for whole, part in zip(IMAGES, batch, strict=True):
            found = [(i, j) for i in range(2) for j in range(3) if (whole[:, i : i + 3, j : j + 3] == part).all()]
            assert len(found) == 1
            places.add(found[0])
    assert places == {(i, j) for i in range(2) for j in range(3)}  # 80 draws of 6 places miss one with probability 3e-6


def test_mirrors() -> None:
    seen = set()
    for phase in ("TRAIN", "TEST"):
        for batch in transformed("mirror: true", phase, 10):
            for whole, got in zip(IMAGES, batch, strict=True):
                seen.add((phase, "as it is" if (got == whole).all() else "mirrored" if (got == whole[..., ::-1]).all() else "else"))
    assert seen == {(phase, how) for phase in ("TRAIN", "TEST") for how in ("as it is", "mirrored")}


def test_wrong_transformations() -> None:
    for how, images, message in (
        ("crop_size: 5", IMAGES, "crop_size is 5, and images are 4 by 5"),
        ("mean_value: 1 mean_value: 2 mean_value: 3", IMAGES, "mean_value is given once or for each of 2 channels, not 3 times"),
        (
            "mirror: true",
            IMAGES.reshape(2, 40),
            r"crops, mirrors and means are for images \(channels, height, width\), not for examples of shape \(40,\)",
        ),
    ):
        with pytest.raises(caffe.DefinitionError, match=message):
            transformed(how, images=images)


# --- DummyData --------------------------------------------------------------------------------------------------------------------------------
def test_dummy_data() -> None:
    text = 'layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { %s } }'
    net = build(text % "shape { dim: 2 dim: 3 } data_filler { value: 7 } data_filler { type: 'uniform' }")
    (a, b) = batches(net, 2, "a", "b")
    assert_exact(a[1], np.full((2, 3), 7.0))
    assert (b[0] != b[1]).all()
    old = build(text % "num: 2 num: 3 channels: 4 height: 1 width: 5")
    assert [blob.shape for blob in old.blobs.values()] == [(2, 4, 1, 5), (3, 4, 1, 5)]
    for wrong, message in (
        ("shape {} data_filler {} data_filler {} data_filler {}", "data_filler is given once or for each of 2 tops, not 3 times"),
        ("shape {} shape {} shape {}", "a shape is given once or for each of 2 tops, not 3 times"),
        ("num: 2", "a shape is wanted, or num, channels, height and width, once or for each top"),
    ):
        with pytest.raises(caffe.DefinitionError, match=message):
            build(text % wrong)


# --- HDF5Data ---------------------------------------------------------------------------------------------------------------------------------
def hdf5(folder: Path, more: str = "") -> str:
    h5py = pytest.importorskip("h5py")
    for i, rows in enumerate((range(3), range(3, 5))):
        with h5py.File(folder / f"{i}.h5", "w") as file:
            file["x"] = np.asarray([[row, row] for row in rows], dtype="float64")
            file["t"] = np.asarray(rows)
    (folder / "list.txt").write_text(f"{folder / '0.h5'}\n{folder / '1.h5'}\n")
    return f'layer {{ name: "h" type: "HDF5Data" top: "x" top: "t" hdf5_data_param {{ source: "{folder / "list.txt"}" batch_size: 2 {more} }} }}'


def test_hdf5(tmp_path: Path) -> None:
    net = build(hdf5(tmp_path))
    x, t = batches(net, 5, "x", "t")
    assert np.concatenate(t).tolist() == [0, 1, 2, 3, 4] * 2
    assert_exact(np.concatenate(x)[:, 1], np.concatenate(t))


def test_hdf5_shuffled(tmp_path: Path) -> None:
    (t,) = batches(build(hdf5(tmp_path, "shuffle: true")), 10, "t")
    rounds = np.concatenate(t).reshape(4, 5)
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in rounds.tolist())
    assert len({tuple(row) for row in rounds.tolist()}) > 1


def test_wrong_hdf5(tmp_path: Path) -> None:
    text = hdf5(tmp_path)
    with pytest.raises(caffe.DefinitionError, match=r"0.h5 has no dataset 'y'; it has t, x"):
        build(text.replace('top: "x"', 'top: "y"'))
    with pytest.raises(caffe.DefinitionError, match="it transforms nothing: leave transform_param out"):
        build(text.replace('top: "x"', 'top: "x" transform_param { scale: 2 }'))
    with pytest.raises(caffe.DefinitionError, match=r"there is no file '.*nowhere.txt', its source"):
        build(text.replace("list.txt", "nowhere.txt"))
    with pytest.raises(caffe.DefinitionError, match="a batch_size of 1 or more is wanted"):
        build(text.replace("batch_size: 2", "batch_size: 0"))
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(caffe.DefinitionError, match=r"list.txt is empty"):
        build(text)


OUTPUT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 } } }
layer { name: "out" type: "HDF5Output" bottom: "x" bottom: "t" hdf5_output_param { file_name: "%s" } }
"""


def test_hdf5_output(backend: support.Backend, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "out.h5").write_text("of the last run")
    net = build(OUTPUT % (tmp_path / "out.h5"), xp=backend.xp, force_backward=True)
    x, t = np.arange(30.0).reshape(5, 2, 3), np.arange(10.0).reshape(5, 2)
    for a, b in zip(x, t, strict=True):
        net.forward(x=backend.asarray(a), t=backend.asarray(b))
    net.backward()
    net.forward(x=backend.asarray(x[0, :1]), t=backend.asarray(t[0, :1]))  # a last batch may be smaller
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].dtype == "float64"
        assert_exact(file["data"][()], np.concatenate([x.reshape(10, 3), x[0, :1]])[..., None, None])
        assert_exact(file["label"][()], np.concatenate([t.ravel(), t[0, :1]])[:, None, None, None])


def test_wrong_hdf5_output(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(
        caffe.DefinitionError, match=r"<text>:4: layer 'out' \(HDF5Output\): [^ ]*nowhere/out.h5: it cannot be written as HDF5"
    ):
        build(OUTPUT % (tmp_path / "nowhere" / "out.h5"))
    with pytest.raises(caffe.DefinitionError, match="it needs a file_name"):
        build((OUTPUT % "").replace('file_name: ""', ""))
    net = build(OUTPUT % (tmp_path / "out.h5"))
    net.forward()
    with pytest.raises(caffe.DefinitionError, match=r"its dataset 'data' has rows of shape \(3, 1, 1\), and 'x' of shape \(4, 1, 1\)"):
        net.forward(x=np.ones((2, 4)))
    with pytest.raises(caffe.DefinitionError, match=r"its bottoms have as many rows, not shapes \(3, 3\) and \(2,\)"):
        net.forward(x=np.ones((3, 3)))


# --- ImageData --------------------------------------------------------------------------------------------------------------------------------
def images(folder: Path, more: str = "") -> tuple[str, Any]:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype("uint8")
    lines = []
    for i, one in enumerate(pixels):
        image.fromarray(one).save(folder / f"an image {i}.png")
        lines.append(f"an image {i}.png {i + 10}")
    (folder / "list.txt").write_text("\n".join(lines))
    where = f'source: "{folder / "list.txt"}" root_folder: "{folder}" batch_size: 2'
    return f'layer {{ name: "i" type: "ImageData" top: "x" top: "t" image_data_param {{ {where} {more} }} }}', pixels


def test_images(tmp_path: Path) -> None:
    text, pixels = images(tmp_path)
    x, t = batches(build(text), 3, "x", "t")
    assert np.concatenate(t).tolist() == [10, 11, 12, 10, 11, 12]
    assert_exact(x[0], np.moveaxis(pixels[:2, ..., ::-1], -1, 1).astype("float64"))  # blue first
    (gray,) = batches(build(images(tmp_path, "is_color: false")[0]), 1, "x")
    assert gray[0].shape == (2, 1, 4, 6)
    assert_close(gray[0][:, 0], pixels[:2] @ np.asarray([0.299, 0.587, 0.114]), rtol=0, atol=1)  # rounded to integers
    (shuffled,) = batches(build(images(tmp_path, "shuffle: true rand_skip: 2")[0]), 3, "t")
    assert set(np.concatenate(shuffled)) == {10.0, 11.0, 12.0}


def test_resized_images(tmp_path: Path) -> None:
    """Twice as large: pixels stand at a quarter and three quarters between the old ones."""
    text, pixels = images(tmp_path, "new_height: 8 new_width: 12")
    (x,) = batches(build(text), 1, "x")
    blue = pixels[0, ..., 2].astype("float64")
    assert x[0].shape == (2, 3, 8, 12)
    rows = 0.75 * blue[1:-1] + 0.25 * blue[2:]
    assert_close(x[0][0, 0, 3:-2:2, 3:-2:2], 0.75 * rows[:, 1:-1] + 0.25 * rows[:, 2:], rtol=0, atol=0.5)  # rounded to integers
    with pytest.raises(caffe.DefinitionError, match="new_height and new_width are given both or none"):
        build(images(tmp_path, "new_height: 8")[0])


def test_wrong_images(tmp_path: Path) -> None:
    text, pixels = images(tmp_path)
    image = pytest.importorskip("PIL.Image")
    image.fromarray(pixels[0, :2]).save(tmp_path / "an image 1.png")
    with pytest.raises(caffe.DefinitionError, match=r"the examples of a batch have different shapes: \(3, 2, 6\), \(3, 4, 6\)"):
        build(text).forward()
    for line in ("a.png", "a.png cat"):
        (tmp_path / "list.txt").write_text(line)
        with pytest.raises(
            caffe.DefinitionError, match=f"each line of .*list.txt is a path, a space and a label, an integer; not '{line}'"
        ):
            build(text)


def test_a_slash_in_front_is_the_folders(tmp_path: Path) -> None:
    text, pixels = images(tmp_path)
    lines = (tmp_path / "list.txt").read_text().splitlines()
    (tmp_path / "list.txt").write_text("\n".join(f"/{line}" for line in lines))
    (x,) = batches(build(text), 1, "x")
    assert_exact(x[0][0, 0], pixels[0, ..., 2].astype("float64"))


# --- WindowData -------------------------------------------------------------------------------------------------------------------------------
def windows(folder: Path, more: str = "", transform: str = "crop_size: 4", lines: str = "") -> tuple[str, Any]:
    """Two images, each 12 wide and 10 high, with an object and two parts of the background."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 10, 12, 3)).astype("uint8")
    text = ""
    for i, one in enumerate(pixels):
        image.fromarray(one).save(folder / f"{i}.png")
        text += f"# {i}\n{i}.png\n3\n10\n12\n3\n{i + 5} 0.9 4 3 7 6\n{i + 5} 0.1 0 0 3 3\n0 0.0 8 6 11 9\n"
    (folder / "windows.txt").write_text(lines or text)
    where = f'source: "{folder / "windows.txt"}" root_folder: "{folder}" batch_size: 8'
    param = f"transform_param {{ {transform} }} window_data_param {{ {where} {more} }}"
    return f'layer {{ name: "w" type: "WindowData" top: "x" top: "t" {param} }}', np.moveaxis(pixels[..., ::-1], -1, 1).astype("float64")


def test_windows(tmp_path: Path) -> None:
    text, pixels = windows(tmp_path)
    x, t = batches(build(text), 6, "x", "t")
    assert x[0].shape == (8, 3, 4, 4)
    assert all(labels[:6].tolist() == [0] * 6 for labels in t)  # three quarters are background, and come first
    assert {int(label) for labels in t for label in labels[6:]} == {5, 6}
    objects = {i + 5: pixels[i, :, 3:7, 4:8] for i in range(2)}
    ground = [pixels[i, :, r : r + 4, c : c + 4] for i in range(2) for r, c in ((0, 0), (6, 8))]
    for batch, labels in zip(x, t, strict=True):
        for one, label in zip(batch, labels, strict=True):
            assert any(np.array_equal(one, part) for part in ([objects[int(label)]] if label else ground))
    kept = build(windows(tmp_path, "cache_images: true fg_fraction: 1")[0])
    (tmp_path / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0.png"):
        for _ in range(20):
            kept.forward()


def test_windows_transformed(tmp_path: Path) -> None:
    text, pixels = windows(tmp_path, "fg_fraction: 1", "crop_size: 4 mirror: true scale: 0.5 mean_value: 1 mean_value: 2 mean_value: 3")
    wanted = {i + 5: (pixels[i, :, 3:7, 4:8] - np.asarray([1.0, 2, 3])[:, None, None]) * 0.5 for i in range(2)}
    (x,), (t,) = batches(build(text), 1, "x", "t")
    mirrored = [np.array_equal(one, wanted[int(label)][..., ::-1]) for one, label in zip(x, t, strict=True)]
    straight = [np.array_equal(one, wanted[int(label)]) for one, label in zip(x, t, strict=True)]
    assert [a != b for a, b in zip(mirrored, straight, strict=True)] == [True] * 8
    assert 0 < sum(mirrored) < 8
    mean = np.random.default_rng(1).normal(size=(3, 6, 8))
    blob = caffe.Message("BlobProto", shape={"dim": list(mean.shape)}, double_data=[float(v) for v in mean.ravel()])
    (tmp_path / "mean").write_bytes(caffe.encode(blob))
    text, _ = windows(tmp_path, "fg_fraction: 1", f'crop_size: 4 mean_file: "{tmp_path / "mean"}"')
    (x,), (t,) = batches(build(text), 1, "x", "t")
    assert_close(x[0], pixels[int(t[0]) - 5, :, 3:7, 4:8] - mean[:, 2:, 2:][:, :4, :4], rtol=1e-6)  # the same start for rows and columns


def test_windows_with_some_of_the_image_around(tmp_path: Path) -> None:
    """Of 4 numbers and 2 of context, 9 are taken, as Caffe rounds; of a window at the edge, 7, and 2 columns are left free."""
    image = pytest.importorskip("PIL.Image")
    text, _ = windows(tmp_path, "fg_fraction: 1 context_pad: 2", "crop_size: 8", "# 0\n0.png 3 10 12 1\n1 1.0 0 3 3 6\n")
    image.fromarray(np.full((10, 12, 3), 100, dtype="uint8")).save(tmp_path / "0.png")
    (x,) = batches(build(text), 1, "x")
    seen = np.full((8, 8), 100.0)
    seen[:, :2] = 0.0
    assert_exact(x[0], np.broadcast_to(seen, (8, 3, 8, 8)))
    (x,) = batches(build(text.replace("crop_size: 8", "crop_size: 8 mirror: true")), 1, "x")
    assert {one[0, 0].tolist().count(0.0) for one in x[0]} == {2}
    assert {bool(one[0, 0, 0]) for one in x[0]} == {True, False}
    square = windows(tmp_path, "fg_fraction: 1 crop_mode: 'square'", "crop_size: 5", "# 0\n0.png 3 10 12 1\n1 1.0 5 2 6 5\n")[0]
    ramp = np.tile(np.arange(12) * 10, (10, 1))
    image.fromarray(np.stack([ramp] * 3, axis=-1).astype("uint8")).save(tmp_path / "0.png")
    (x,) = batches(build(square), 1, "x")
    assert_exact(x[0][0, 0], np.tile(np.arange(4, 9) * 10.0, (5, 1)))  # 2 wide and 4 high: a square of 4, from 4 to 8 as Caffe rounds


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        ("x\n", "", r"windows.txt:1: an image begins with '# number', and here is 'x'"),
        ("# 0\n0.png\n3 10 12\ntwo", "", r"windows.txt:4: a number was expected, and here is 'two'"),
        ("# 0\n0.png\n3 10 12 1\n1 0.5", "", r"windows.txt: a number was expected, and the file ends"),
        ("# 0\n0.png\n3 10 12 1\n0 0.9 1 1 2 2", "", r"windows.txt:4: the label of an object is 1 or more, not 0"),
        ("# 0\n0.png\n3 10 12 1\n1 0.9 1 1 2 2", "", r"windows.txt has no windows of background"),
        ("# 0\n0.png\n3 10 12 1\n1 0.1 1 1 2 2", "", r"windows.txt has no windows of objects"),
        (
            "# 0\n0.png\n3 10 12 1\n1 0.9 9 9 20 20",
            "fg_fraction: 1",
            r"windows.txt:4: window \(9, 9, 20, 20\) is not inside the image 0.png",
        ),
        ("", "crop_mode: 'round'", r"crop_mode is 'warp' or 'square', not 'round'"),
        ("", "context_pad: 2", r"crop_size is 4 and context_pad 2: the first is 1 or more, and more than twice the second"),
        ("", "batch_size: 0", r"'batch_size' of WindowDataParameter is given twice"),
    ],
)
def test_wrong_windows(lines: str, more: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(caffe.DefinitionError, match=message):
        build(windows(tmp_path, more, lines=lines)[0]).forward()


# --- Data -------------------------------------------------------------------------------------------------------------------------------------
def database(folder: Path, more: str = "", encoded: bool = False) -> tuple[str, Any]:
    lmdb = pytest.importorskip("lmdb")
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 5)).astype("uint8")
    with lmdb.open(str(folder / "db"), map_size=1 << 20) as base, base.begin(write=True) as transaction:
        for i, one in enumerate(pixels):
            if encoded:
                file = io.BytesIO()
                image.fromarray(np.moveaxis(one[::-1], 0, -1)).save(file, "png")
                datum = caffe.Message("Datum", data=file.getvalue(), encoded=True, label=i)
            elif i == 1:
                datum = caffe.Message("Datum", channels=3, height=4, width=5, float_data=[float(v) for v in one.ravel()], label=i)
            else:
                datum = caffe.Message("Datum", channels=3, height=4, width=5, data=one.tobytes(), label=i)
            transaction.put(f"{i:08}".encode(), caffe.encode(datum))
    source = f'source: "{folder / "db"}" batch_size: 2 backend: LMDB'
    return f'layer {{ name: "d" type: "Data" top: "x" top: "t" transform_param {{ scale: 0.5 }} data_param {{ {source} {more} }} }}', pixels


@pytest.mark.parametrize("encoded", [False, True])
def test_lmdb(encoded: bool, tmp_path: Path) -> None:
    text, pixels = database(tmp_path, encoded=encoded)
    net = build(text)
    assert net.blobs["x"].shape == (2, 3, 4, 5)
    x, t = batches(net, 3, "x", "t")
    assert np.concatenate(t).tolist() == [0, 1, 2, 0, 1, 2]
    assert_exact(np.concatenate(x), np.concatenate([pixels, pixels]) * 0.5)


@pytest.mark.parametrize(
    ("mode", "how", "channels"), [("L", "", 1), ("L", "force_color: true", 3), ("RGB", "force_gray: true", 1), ("RGBA", "", 4)]
)
def test_encoded_images_keep_their_channels(mode: str, how: str, channels: int, tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, len(mode))).astype("uint8")
    file = io.BytesIO()
    image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(file, "png")
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 20) as base, base.begin(write=True) as transaction:
        transaction.put(b"0", caffe.encode(caffe.Message("Datum", data=file.getvalue(), encoded=True)))
    source = f'source: "{tmp_path / "db"}" batch_size: 1 backend: LMDB'
    net = build(f'layer {{ name: "d" type: "Data" top: "x" transform_param {{ {how} }} data_param {{ {source} }} }}')
    ((x,),) = batches(net, 1, "x")
    assert x.shape == (1, channels, 4, 5)
    first = pixels @ np.asarray({"L": [1.0], "RGB": [0.299, 0.587, 0.114], "RGBA": [0.0, 0.0, 1.0, 0.0]}[mode])  # gray, or blue
    assert_close(x[0, 0], first, rtol=0, atol=1)  # rounded to integers


def test_lmdb_from_a_random_place(tmp_path: Path) -> None:
    text, _ = database(tmp_path, "rand_skip: 3")
    firsts = {int(batches(build(text, generator=ad.Generator(seed)), 1, "t")[0][0][0]) for seed in range(20)}
    assert firsts == {0, 1, 2}


def test_one_top_without_labels(tmp_path: Path) -> None:
    net = build(database(tmp_path)[0].replace('top: "t"', ""))
    net.forward()
    assert list(net.blobs) == ["x"]


def test_wrong_databases(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    text = f'layer {{ name: "d" type: "Data" top: "x" data_param {{ source: "{tmp_path / "db"}" batch_size: 1 %s }} }}'
    with pytest.raises(
        caffe.DefinitionError, match=r"layer 'd' \(Data\): there is no database '.*db', its source; or give arrays or shapes"
    ):
        build(text % "backend: LMDB")
    with pytest.raises(caffe.DefinitionError, match=r"LevelDB databases are not read: convert '.*db' to LMDB"):
        build(text % "")
    lmdb.open(str(tmp_path / "db"), map_size=1 << 20).close()
    with pytest.raises(caffe.DefinitionError, match=r"the database '.*db' is empty"):
        build(text % "backend: LMDB")
    with lmdb.open(str(tmp_path / "other"), map_size=1 << 20) as base, base.begin(write=True) as transaction:
        transaction.put(b"a", caffe.encode(caffe.Message("Datum", channels=1, height=2, width=2, data=b"abc")))
    with pytest.raises(caffe.DefinitionError, match=r"other, key b'a': 3 numbers for a shape of \(1, 2, 2\)"):
        build((text % "backend: LMDB").replace("/db", "/other"))


def test_two_nets_read_one_database(tmp_path: Path) -> None:
    text, _ = database(tmp_path)
    one, other = build(text), build(text, "TEST")
    for net in (one, one, other):
        net.forward()
    assert one.blobs["t"].data.tolist() == [2, 0]
    assert other.blobs["t"].data.tolist() == [0, 1]


# --- layers of one's own ----------------------------------------------------------------------------------------------------------------------
class Power(caffe.Layer):
    """The power that ``param_str`` says."""

    exact_bottoms = exact_tops = 1

    def setup(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        self.power = int(self.param_str)

    def reshape(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].data = bottom[0].data ** self.power

    def backward(self, top: list[caffe.Blob], propagate_down: list[bool], bottom: list[caffe.Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff = self.power * bottom[0].data ** (self.power - 1) * top[0].diff


class Counting(caffe.Layer):
    """Data: 0, then 1, and so on."""

    makes_data = True
    count = -1

    def setup(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].reshape(2)

    def reshape(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        pass

    def forward(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        self.count += 1
        top[0].data = float(self.count)

    def backward(self, top: list[caffe.Blob], propagate_down: list[bool], bottom: list[caffe.Blob]) -> None:
        pass


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made = types.ModuleType("layers_of_mine")
    made.Power, made.Counting, made.number = Power, Counting, 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "layers_of_mine", made)
    return "layers_of_mine"


def python(name: str, layer: str, more: str = "") -> str:
    return f'layer {{ name: "p" type: "Python" {name} python_param {{ module: "layers_of_mine" layer: "{layer}" {more} }} }}\n'


def test_python_layers(module: str, backend: support.Backend) -> None:
    text = python('top: "x"', "Counting") + python('bottom: "x" top: "y"', "Power", "param_str: '3'")
    net = build(text, force_backward=True, xp=backend.xp)
    for i in range(4):
        assert_exact(backend.numpy(net.forward()["y"]), np.full(2, float(i**3)))
    net.backward(y=np.ones(2))
    assert_exact(backend.numpy(net.blobs["x"].diff), np.full(2, 27.0))
    assert build(text, inputs={"x": (5,)}).blobs["y"].shape == (5,)


def test_wrong_python_layers(module: str) -> None:
    for text, message in (
        (python('top: "x"', "Missing"), r"<text>:1: layer 'p' \(Python\): module 'layers_of_mine' has no 'Missing'"),
        (python('top: "x"', "number"), "layers_of_mine.number is no subclass of caffe.Layer"),
        (python('top: "x"', "Power").replace(module, "not_there"), "module 'not_there' cannot be imported: No module named 'not_there'"),
    ):
        with pytest.raises(caffe.DefinitionError, match=message):
            build(text)


def test_registered_types() -> None:
    caffe.register("ToThe")(Power)
    try:
        text = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 } } }\nlayer { name: "p" type: "ToThe" bottom: "x" top: "y" }'
        with pytest.raises(caffe.DefinitionError, match=r"<text>:2: layer 'p' \(ToThe\): invalid literal"):
            build(text)
    finally:
        del caffe.LAYERS["ToThe"]
