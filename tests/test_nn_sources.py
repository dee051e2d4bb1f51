"""Datasets from files: what comes out, what is refused, and memory that does not grow."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import struct
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnostic_ad import nn
from agnostic_ad.nn.data import DamagedSample, DataLoader, DatasetError, StackDataset, datasets
from agnostic_ad.nn.data.datasets import (
    CSV,
    ImageFolder,
    JSONLines,
    Lines,
    NumpyFile,
    Parquet,
    TextWindows,
    mapped,
    read_idx,
    records,
    text,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("AGNOSTIC_AD_OFFLINE", "1")
    return tmp_path


@pytest.fixture(params=["in memory", "mapped"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small files are held in memory; with no size small enough they are mapped."""
    if request.param == "mapped":
        for module in (records, text):
            monkeypatch.setattr(module, "SMALL", 0)
        monkeypatch.setattr(mapped, "_ROOM", 0)  # mapped anew at each access
    return str(request.param)


# --- IDX ---
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(x: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, CODES[x.dtype.name], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.astype(x.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
def test_idx(tmp_path: Path, dtype: str) -> None:
    for shape in ((3, 2, 4), (5,), (0, 3)):
        x = (RNG.random(shape) * 100).astype(dtype)
        for content in (idx(x), gzip.compress(idx(x))):
            (tmp_path / "x").write_bytes(content)
            got = read_idx(tmp_path / "x")
            assert got.dtype == x.dtype and got.dtype.isnative
            np.testing.assert_array_equal(got, x)


def test_what_idx_refuses(tmp_path: Path) -> None:
    path, whole = tmp_path / "x", idx(np.zeros((3, 2), np.uint8))
    for content, said in [
        (whole[:-1], r"an array of shape \(3, 2\) takes 18 bytes, and there are 17"),
        (whole + b"?", "takes 18 bytes, and there are 19"),
        (b"\0\0\7\2" + whole[4:], "is no IDX file: it begins with"),
        (b"", "is no IDX file"),
        (whole[:6], "is no IDX file"),
        (gzip.compress(whole)[:-9], "is damaged: Compressed file ended"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=said):
            read_idx(path)


def family(monkeypatch: pytest.MonkeyPatch, folder: Path, of: Any, labels: int = 4, packed: bool = True) -> np.ndarray[Any, Any]:
    images = RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8)
    digests = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in [("images-idx3", images), ("labels-idx1", np.arange(labels, dtype=np.uint8))]:
        content = gzip.compress(idx(x)) if packed else idx(x)
        key = f"train-{name}-ubyte" + (".gz" if of is datasets.KMNIST else "")
        (folder / (f"train-{name}-ubyte" + (".gz" if packed else ""))).write_bytes(content)
        digests[key] = hashlib.sha256(content if of is datasets.KMNIST else idx(x)).hexdigest()
    monkeypatch.setattr(of, "digests", digests)
    return images


@pytest.mark.parametrize("of", [datasets.MNIST, datasets.FashionMNIST, datasets.KMNIST])
def test_the_mnist_family(of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = family(monkeypatch, tmp_path / "files", of)
    data = of(tmp_path / "files")
    assert len(data) == 4 and len(of.classes) == 10
    image, target = data[3]
    assert image.shape == (1, 28, 28) and image.dtype == np.float32 and target == 3 and target.dtype == np.int64
    np.testing.assert_array_equal(data.tensors[0][:, 0], images.astype(np.float32) / np.float32(255))
    raw = of(tmp_path / "files", dtype="uint8")
    np.testing.assert_array_equal(raw[1][0][..., 0], images[1])
    assert next(iter(DataLoader(data, 3)))[0].shape == (3, 1, 28, 28) and data.targets.tolist() == [0, 1, 2, 3]
    changed = of(tmp_path / "files", transform=lambda x: x.mean(), target_transform=lambda y: -y)
    batch = next(iter(DataLoader(changed, 4)))
    assert batch[0].shape == (4,) and batch[1].tolist() == [0, -1, -2, -3]
    with pytest.raises(DatasetError, match="AGNOSTIC_AD_OFFLINE is set"):
        of()


def test_unpacked_files_and_labels_of_another_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    family(monkeypatch, tmp_path / "files", datasets.MNIST, packed=False)
    assert len(datasets.MNIST(tmp_path / "files")) == 4
    family(monkeypatch, tmp_path / "files", datasets.MNIST, labels=3, packed=False)
    with pytest.raises(ValueError, match="MNIST: there are 4 images and 3 labels"):
        datasets.MNIST(tmp_path / "files")
    with pytest.raises(ValueError, match='dtype is "float32" or "uint8", not \'float64\''):
        datasets.ImageArrays(np.zeros((1, 1, 2, 2), np.uint8), np.zeros(1, int), dtype="float64")


# --- CIFAR ---
def cifar(folder: Path, of: Any, n: int = 2) -> np.ndarray[Any, Any]:
    (folder / of.folder).mkdir(parents=True, exist_ok=True)
    rows = RNG.integers(0, 256, (2, n, 3072 + of.labels), dtype=np.uint8)
    rows[..., : of.labels] %= 10
    for name in (*of.files[0], *of.files[1]):
        (folder / of.folder / name).write_bytes(rows[int("test" in name)].tobytes())
    (folder / of.folder / of.names).write_text("".join(f"class{i}\n" for i in range(of.classes_number)) + "\n")
    return rows


@pytest.mark.parametrize("of", [datasets.CIFAR10, datasets.CIFAR100])
def test_cifar(of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = cifar(tmp_path / "files", of)
    for root in (tmp_path / "files", tmp_path / "files" / of.folder):
        train, test = of(root), of(root, train=False, dtype="uint8")
        assert len(train) == 2 * len(of.files[0]) and len(test) == 2 and train[0][0].shape == (3, 32, 32)
        assert train.classes[3] == "class3" and test[1][1] == rows[1, 1, of.labels - 1]
        np.testing.assert_array_equal(test[1][0], rows[1, 1, of.labels :].reshape(3, 32, 32).transpose(1, 2, 0))
        np.testing.assert_array_equal(train[1][0], rows[0, 1, of.labels :].reshape(3, 32, 32).astype(np.float32) / np.float32(255))
    (archive,) = of.source.digests
    packed = tmp_path / "share" / "datasets" / of.source.name / archive
    packed.parent.mkdir(parents=True)
    with tarfile.open(packed, "w:gz") as tape:
        tape.add(tmp_path / "files" / of.folder, of.folder)
    with pytest.raises(DatasetError, match=f"and should have {of.source.digests[archive]}. Delete it"):
        of()
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    monkeypatch.setattr(of, "source", replace(of.source, digests={archive: digest}))
    assert len(of(train=False)) == len(of(train=False)) == 2


def test_what_cifar_refuses(tmp_path: Path) -> None:
    rows = cifar(tmp_path, datasets.CIFAR10)
    path = tmp_path / datasets.CIFAR10.folder / "data_batch_3.bin"
    path.write_bytes(rows[0].tobytes()[:-1])
    with pytest.raises(DatasetError, match=r"data_batch_3.bin is damaged: 6145 bytes are not a whole number of images of 3073 bytes"):
        datasets.CIFAR10(tmp_path)
    rows[0, 1, 0] = 10
    path.write_bytes(rows[0].tobytes())
    with pytest.raises(DatasetError, match=r"data_batch_3.bin is damaged: image 1 has the class 10 of 10"):
        datasets.CIFAR10(tmp_path)
    path.unlink()
    with pytest.raises(DatasetError, match=r"there is no .*data_batch_3.bin"):
        datasets.CIFAR10(tmp_path)
    with pytest.raises(DatasetError, match=r"CIFAR-100: there is no cifar-100-binary.tar.gz in .*get it from https"):
        datasets.CIFAR100(tmp_path)


# --- folders ---
@pytest.fixture
def pets(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for number, name in enumerate(["cat/1.png", "cat/2.JPG", "dog/deep/3.png", "dog/4.gif.txt", "dog/5.png"]):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / "pets" / name).write_text("no image")
        else:
            image.fromarray(np.full((4, 6, 3), 10 * number, np.uint8)).save(tmp_path / "pets" / name)
    return tmp_path / "pets"


def test_images_in_folders(pets: Path) -> None:
    data = ImageFolder(pets)
    assert [Path(path).relative_to(pets).as_posix() for path, _ in data.samples] == [
        "cat/1.png",
        "cat/2.JPG",
        "dog/5.png",
        "dog/deep/3.png",
    ]
    assert data.classes == ["cat", "dog"] and data.class_to_idx == {"cat": 0, "dog": 1} and data.targets == [0, 0, 1, 1]
    images, targets = next(iter(DataLoader(data, 4)))
    assert images.shape == (4, 4, 6, 3) and images.dtype == np.uint8 and targets.tolist() == [0, 0, 1, 1]
    assert images[0].max() == 0 and images[2].min() == images[2].max() == 40
    changed = ImageFolder(
        pets, transform=lambda x: x.mean(), target_transform=str, is_valid_file=lambda path: "3" in Path(path).name, allow_empty=True
    )
    assert list(changed) == [(20.0, "1")]
    texts = datasets.DatasetFolder(pets, lambda path: Path(path).read_text(), (".TXT",), allow_empty=True)
    assert list(texts) == [("no image", 1)]


def test_a_damaged_image_is_named_or_skipped(pets: Path) -> None:
    path = pets / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:45])  # the pixels end later
    for index in (0, -4):
        with pytest.raises(DamagedSample, match=r"sample 0, .*cat.1.png, cannot be read: ") as caught:
            ImageFolder(pets)[index]
    assert caught.value.index == 0 and caught.value.place == str(path) and not caught.value.skip
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(DamagedSample):
        list(DataLoader(ImageFolder(pets), 2))
    with pytest.warns(UserWarning, match=r"left out: sample 0, .*1.png, cannot be read"):
        batches = list(DataLoader(ImageFolder(pets, on_error="skip"), 2))
    assert [targets.tolist() for _, targets in batches] == [[0], [1, 1]]
    with pytest.warns(UserWarning, match="left out"):
        assert len(list(DataLoader(ImageFolder(pets, on_error="skip"), 1))) == 3


def test_what_folders_refuse(pets: Path, tmp_path: Path) -> None:
    (pets / "empty").mkdir()
    for call, said in [
        (lambda: ImageFolder(pets), r"no files of a known kind \(\.jpg, .*\) in .*empty; allow_empty=True permits it"),
        (lambda: ImageFolder(tmp_path / "none"), "ImageFolder: there is no folder"),
        (lambda: ImageFolder(pets / "empty"), "there are no folders in .*empty, one for each class"),
        (lambda: ImageFolder(pets, on_error="stop"), 'on_error is "raise" or "skip", not \'stop\''),
        (lambda: datasets.DatasetFolder(pets, str), "takes extensions or is_valid_file, one of them"),
    ]:
        with pytest.raises((DatasetError, ValueError), match=said):
            call()
    assert ImageFolder(pets, allow_empty=True).classes == ["cat", "dog", "empty"]


# --- .npy files ---
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", ">i4", "float32", "complex128"])
def test_numpy_files(tmp_path: Path, order: str, dtype: str, place: str) -> None:
    x = np.asarray(RNG.integers(0, 100, (7, 2, 3)), dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", x)
    data = pickle.loads(pickle.dumps(NumpyFile(tmp_path / "x.npy")))
    assert len(data) == 7 and data.shape == (7, 2, 3) and data[-1].dtype == x.dtype.newbyteorder("=")
    order_of = np.asarray([3, 0, 3, 6])
    kept = data[2]
    batch = data.take(order_of)
    np.testing.assert_array_equal(batch, x[order_of])
    assert batch.dtype.isnative and type(batch) is np.ndarray
    batch += 1  # of its own
    kept += 1
    np.testing.assert_array_equal([row for row in data], x)
    with pytest.raises(IndexError):
        data[7]


def test_numpy_files_side_by_side(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "y.npy", np.arange(4))
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    both = StackDataset(NumpyFile(tmp_path / "x.npy"), NumpyFile(tmp_path / "y.npy"))
    x, y = next(iter(DataLoader(both, 4, shuffle=True, seed=0)))
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3)[y])
    assert len(NumpyFile(tmp_path / "empty.npy")) == 0 and NumpyFile(tmp_path / "empty.npy").take(np.zeros(0, int)).shape == (0, 3)
    with pytest.raises(ValueError, match="datasets of one length, not of 4, 0"):
        StackDataset(both, NumpyFile(tmp_path / "empty.npy"))


def test_what_numpy_files_refuse(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((10, 10)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DatasetError, match=r"x.npy is cut off: an array of shape \(10, 10\) takes 928 bytes, and there are 920"):
        NumpyFile(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"x.npy is no .npy file"):
        NumpyFile(path)
    np.save(path, np.asarray([{}]))
    with pytest.raises(DatasetError, match="holds Python objects"):
        NumpyFile(path)
    np.save(path, np.asarray(1.0))
    with pytest.raises(DatasetError, match="holds one number, not rows"):
        NumpyFile(path)
    with pytest.raises(DatasetError, match=r"there is no .*none.npy"):
        NumpyFile(tmp_path / "none.npy")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_does_not_grow_with_what_has_been_read(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").is_file():
        pytest.skip("only Linux tells so easily how much memory is resident")
    path, rows = tmp_path / "large.npy", 320
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(rows, 1 << 20)).flush()  # a file with a hole of 320 MiB
    order = np.random.default_rng(0).permutation(rows)

    def growth(take: Any) -> int:
        before = most = resident()
        for start in range(0, rows, 8):
            take(order[start : start + 8])
            most = max(most, resident())
        return most - before

    data = NumpyFile(path)
    assert growth(data.take) < 130 << 20  # 64 MiB of the file, and batches
    narrow = tmp_path / "narrow.npy"  # rows of 256 bytes, which bring much more of the file into the process
    np.lib.format.open_memmap(narrow, mode="w+", dtype=np.uint8, shape=(rows << 12, 256)).flush()
    small = NumpyFile(narrow)
    scattered = np.random.default_rng(0).integers(0, rows << 12, (20, 128))
    assert growth(lambda indices: small.take(scattered[indices[0] % 20])) < 130 << 20
    plain = np.load(path, mmap_mode="r")
    assert growth(lambda indices: np.take(plain, indices, axis=0)) > 280 << 20


# --- tables ---
def table(tmp_path: Path) -> Any:
    pa = pytest.importorskip("pyarrow")
    n = 50
    return pa.table(
        {
            "x": np.arange(n) * 0.5,
            "n": np.arange(n, dtype=np.int32),
            "some": pa.array([None if i == 41 else i for i in range(n)]),
            "flag": np.arange(n) % 2 == 0,
            "name": [f"row {i}" for i in range(n)],
            "kind": pa.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * n)), 2),
            "day": pa.array(np.datetime64("2020-01-01") + np.arange(n)),
            "label": np.arange(n) % 4,
        }
    )


def test_parquet(tmp_path: Path, place: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    pq.write_table(table(tmp_path), path, row_group_size=13)
    data = pickle.loads(pickle.dumps(Parquet(path)))
    assert len(data) == 50
    order = np.asarray([49, 3, 3, 20, 0])
    batch = data.take(order)
    assert batch["x"].tolist() == [24.5, 1.5, 1.5, 10.0, 0.0] and batch["n"].dtype == np.int32 and batch["n"].tolist() == order.tolist()
    assert batch["some"].dtype == np.float64 and batch["some"].tolist() == order.tolist()  # so in every batch, for the sake of one
    assert np.isnan(data[41]["some"]) and batch["flag"].dtype == bool and batch["name"][1] == "row 3" and batch["kind"][0] == "k1"
    assert batch["vector"].tolist() == [[2.0 * i, 2.0 * i + 1] for i in order] and str(batch["day"][1]) == "2020-01-04"
    batch["x"] += 1  # of its own
    assert data[-1]["x"] == 24.5
    assert [row["n"] for row in data] == list(range(50))
    features, labels = next(iter(DataLoader(Parquet(path, ["x", "flag", "vector"], target="label"), 50)))
    assert features.dtype == np.float32 and labels.tolist() == (np.arange(50) % 4).tolist() and labels.dtype == np.int64
    np.testing.assert_array_equal(features[3], [1.5, 0, 6, 7])
    assert Parquet(path, ["x"], target="label", dtype="float64").take(np.zeros(0, int))[0].shape == (0, 1)
    made = list((tmp_path / "cache").rglob("*.table"))
    assert len(made) == (3 if place == "mapped" else 0)
    for call, said in [
        (lambda: Parquet(path, ["y"]), "has no column 'y'; it has x, n"),
        (lambda: Parquet(path, target="label"), "column 'name' holds texts or lists, which is no feature"),
        (lambda: Parquet(path, target="y"), "has no column 'y'"),
        (lambda: Parquet(tmp_path / "none"), "there is no .*none"),
        (lambda: data.take(np.asarray([50])), "rows 50 to 50 of 50"),
        (lambda: data[50], "sample 50 of 50"),
    ]:
        with pytest.raises((DatasetError, IndexError), match=said):
            call()


def test_a_damaged_parquet_file(tmp_path: Path, place: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": RNG.random(60)}), path, row_group_size=20, use_dictionary=False, write_page_checksum=True)
    whole = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    whole[start + 120] ^= 255
    path.write_bytes(whole)
    with pytest.raises(DamagedSample, match=r"sample 20, .*t.parquet, row group 1, cannot be read: "):
        Parquet(path)
    with pytest.warns(UserWarning, match=r"left out: sample 20, .*row group 1"):
        assert len(Parquet(path, on_error="skip")) == 40
    path.write_bytes(whole[:-20])
    with pytest.raises(DatasetError, match="is no whole Parquet file"):
        Parquet(path)


def test_csv(tmp_path: Path, place: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.csv"
    path.write_text('x,n,name,gap\n1.5,1,"a,b",\n2.5,2,c,7\n,3,NA,8\n')
    data = CSV(path)
    assert data[0]["name"] == "a,b" and data[2]["name"] == "NA" and np.isnan(data[2]["x"]) and np.isnan(data[0]["gap"])
    assert data.take(np.asarray([2, 1]))["n"].tolist() == [3, 2] and data[1]["n"].dtype == np.int64 and data[1]["gap"] == 7.0
    features, target = CSV(path, ["n", "gap"], target="x")[1]
    assert features.tolist() == [2.0, 7.0] and features.dtype == np.float32 and target == 2.5
    path.write_bytes(gzip.compress(b"x;n\n1;2\n") if place == "in memory" else b"x;n\n1;2\n")
    path = path.rename(tmp_path / "t.csv.gz") if place == "in memory" else path
    assert CSV(path, delimiter=";", types={"n": "float32"})[0] == {"x": 1, "n": 2.0}
    for content, said in [("x,n\n", "holds no rows"), ("", "is no CSV file")]:
        (tmp_path / "empty.csv").write_text(content)
        with pytest.raises(DatasetError, match=said):
            CSV(tmp_path / "empty.csv")
    (tmp_path / "t.csv").write_text("x,n\n1,2\n")
    with pytest.raises(DatasetError, match="is no CSV file with these columns"):
        CSV(tmp_path / "t.csv", ["y"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1.5,x", r"sample 7001, .*t.csv, cannot be read: column 'n' holds 'x', which is no int64"),
        ("1.5", r"sample 7001, .*t.csv, cannot be read: it has 1 cells, and there are 2 columns"),
        ("1,2,3", r"sample 7001, .*it has 3 cells"),
    ],
)
def test_a_damaged_row(tmp_path: Path, place: str, row: str, said: str) -> None:
    pytest.importorskip("pyarrow")
    rows = [f"{i}.5,{i}" for i in range(9000)]
    rows[7001] = row
    rows[8500] = "y,1"
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,n", *rows]))
    types = {"x": "float64", "n": "int64"}
    with pytest.raises(DamagedSample, match=said):
        CSV(path, types=types)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = CSV(path, types=types, on_error="skip")
    assert [str(each.message).split(",")[0] for each in caught] == ["left out: sample 7001", "left out: sample 8500"]
    assert len(data) == 8998 and data[7000]["n"] == 7000 and data[7001]["n"] == 7002 and data[8997]["n"] == 8999


# --- text ---
@pytest.mark.parametrize("level", ["character", "byte"])
def test_windows_of_a_text(tmp_path: Path, level: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_BLOCK", 7)  # characters of several bytes lie across blocks
    said = "Grüße, 世界! 😀 end."
    path = tmp_path / "t.txt"
    path.write_text(said, encoding="utf-8")
    data = pickle.loads(pickle.dumps(TextWindows(path, 4, level)))
    tokens = [sorted(set(said)).index(c) for c in said] if level == "character" else list(said.encode())
    assert data.vocab_size == (len(set(said)) if level == "character" else 256)
    assert len(data) == (len(tokens) - 1) // 4
    x, y = data.take(np.arange(len(data)))
    assert (
        x.dtype == y.dtype == np.int64
        and x.flatten().tolist() == tokens[: 4 * len(data)]
        and y.flatten().tolist() == tokens[1 : 4 * len(data) + 1]
    )
    assert data[-1][0].tolist() == x[-1].tolist() and data.decode(x.flatten()) in said + "�"
    with pytest.raises(IndexError, match="sample"):
        data[len(data)]
    every = TextWindows(path, 4, level, stride=1)
    assert (
        len(every) == len(tokens) - 4 and every[1][0].tolist() == every[0][1].tolist() and every[len(every) - 1][1].tolist() == tokens[-4:]
    )
    assert next(iter(DataLoader(every, 5)))[1].shape == (5, 4)
    assert len(TextWindows(path, 500, level)) == 0


def test_a_vocabulary_of_another_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abab")
    data = TextWindows(path, 2, vocabulary="xba")
    assert data[0][0].tolist() == [2, 1] and data.vocabulary == "xba" and data.vocab_size == 3
    path.write_bytes(b"abc\xffd")
    for call, said in [
        (lambda: TextWindows(path, 2), r"t.txt is not in UTF-8: byte 3 \(invalid start byte\)"),
        (lambda: TextWindows(path, 0), "length and stride are 1 or more, not 0"),
        (lambda: TextWindows(path, 2, "word"), 'level is "character" or "byte", not \'word\''),
        (lambda: TextWindows(tmp_path / "none", 2), "there is no .*none"),
    ]:
        with pytest.raises((DatasetError, ValueError), match=said):
            call()
    path.write_text("abZb")
    with pytest.raises(DatasetError, match=r"t.txt: character 2, 'Z', is not in the vocabulary"):
        TextWindows(path, 2, vocabulary="ab")
    path.write_text("")
    assert len(TextWindows(path, 2)) == len(TextWindows(path, 2, "byte")) == 0


# --- streams ---
def test_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ä\r\n\nlast".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"packed\n"))
    data = Lines([tmp_path / "a.txt", tmp_path / "b.txt.gz"])
    assert list(data) == ["ä", "", "last", "packed"] == list(data)
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\nthree\n")
    with pytest.raises(DamagedSample, match=r"sample 1, .*a.txt, cannot be read: 'utf-8' codec"):
        list(Lines(tmp_path / "a.txt"))
    with pytest.warns(UserWarning, match="left out: sample 1"):
        assert list(Lines(tmp_path / "a.txt", on_error="skip")) == ["one", "three"]
    assert list(Lines(tmp_path / "a.txt", "latin-1")) == ["one", "ÿ", "three"]
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"packed\n")[:-9])
    with pytest.raises(DatasetError, match=r"b.txt.gz is damaged: Compressed file ended"):
        list(Lines(tmp_path / "b.txt.gz"))
    with pytest.raises(DatasetError, match=r"there is no .*none"):
        list(Lines(tmp_path / "none"))


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n\n{"a": [2]}\n{"a": \n')
    with pytest.raises(DamagedSample, match=r"sample 3, .*t.jsonl, cannot be read: Expecting value"):
        list(JSONLines(path))
    with pytest.warns(UserWarning, match="left out: sample 3"):
        assert list(JSONLines(path, on_error="skip")) == [{"a": 1}, {"a": [2]}]
    path.write_text("".join(json.dumps({"i": i}) + "\n" for i in range(3)))
    assert [row["i"] for row in JSONLines(path) + JSONLines([path])] == [0, 1, 2, 0, 1, 2]


def test_names() -> None:
    assert (
        set(datasets.__all__) >= {"ImageFolder", "CSV", "Parquet", "NumpyFile", "TextWindows"}
        and nn.data.DatasetError is datasets.DatasetError
    )
