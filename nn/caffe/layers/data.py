"""Layers that bring data: from arrays, files, databases and fillers. Reading is done on the host; the tops lie where the net's arrays do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.files import hdf5, host, lmdb_at
from agnostic_ad.nn.caffe.fillers import fill
from agnostic_ad.nn.caffe.images import Window, cut, decoded, inside, read_windows
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import detached, lines_of, source_of
from agnostic_ad.nn.caffe.message import DefinitionError, Message
from agnostic_ad.nn.caffe.transformer import Transformer
from agnostic_ad.nn.caffe.wire import decode

__all__ = ["Data", "DataLayer", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "Input", "MemoryData", "Python", "WindowData"]

_Examples = Iterator[tuple[Any, ...]]


class DataLayer(Layer):
    """What data layers have in common: no bottoms, and nothing to do on the way back."""

    exact_bottoms = 0
    min_tops = 1
    makes_data = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Leave the tops as they are: `setup` and `forward` give them shapes."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Do nothing."""


@register("Input")
class Input(DataLayer):
    """Tops that the user fills: ``net.forward(name=array)``."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = self.param_of("input_param").shape
        if len(shapes) not in (0, 1, len(top)):
            raise self.fail(f"a shape is given once or for each of {len(top)} tops, not {len(shapes)} times")
        for blob, shape in zip(top, shapes if len(shapes) == len(top) else [*shapes] * len(top)):
            blob.reshape(*shape.dim)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Leave what the user wrote."""


@register("Python")
class Python(DataLayer):
    """The type of layers of one's own, which ``python_param`` names: the net makes them of the class itself.

    Such a layer without bottoms counts as a data layer, in whose place arrays may be given.
    """


@register("DummyData")
class DummyData(DataLayer):
    """Tops that fillers fill: once where they are constant, before each forward where they are random."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.param_of("dummy_data_param")
        count = len(top)
        self.fillers = list(param.data_filler) or [Message("FillerParameter")]
        if len(self.fillers) not in (1, count):
            raise self.fail(f"data_filler is given once or for each of {count} tops, not {len(self.fillers)} times")
        old = [getattr(param, name) for name in ("num", "channels", "height", "width")]
        if param.shape:
            shapes = [list(shape.dim) for shape in param.shape]
        else:
            sizes = max(map(len, old))
            if any(len(size) not in (1, sizes) for size in old):
                raise self.fail("a shape is wanted, or num, channels, height and width, once or for each top")
            shapes = [[size[i % len(size)] for size in old] for i in range(sizes)]
        if len(shapes) not in (1, count):
            raise self.fail(f"a shape is given once or for each of {count} tops, not {len(shapes)} times")
        for i, blob in enumerate(top):
            blob.reshape(*shapes[i % len(shapes)])
            fill(blob, self.fillers[i % len(self.fillers)], self.generator)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(top):
            how = self.fillers[i % len(self.fillers)]
            if how.type != "constant":
                fill(blob, how, self.generator)


@register("MemoryData")
class MemoryData(DataLayer):
    """Batches of arrays that hold all examples, over and over: `feed` gives the arrays.

    The first top is transformed as ``transform_param`` says. ``memory_data_param`` needs only ``batch_size``; where it says the sizes of images as
    well, arrays must have them.
    """

    arrays: list[Any] = []
    place_in_data = 0

    def feed(self, *arrays: Any) -> None:
        """Read from other arrays, from their beginning.

        Parameters
        ----------
        *arrays : array
            One for each top, of any array library, with one entry of axis 0 for each example.
        """
        held = [np.asarray(a) if isinstance(a, list | tuple) else host(a) for a in arrays]
        lengths = {len(a) if a.ndim else 0 for a in held}
        if len(lengths) != 1 or 0 in lengths:
            shapes = ", ".join(str(a.shape) for a in held)
            raise self.fail(f"arrays with as many examples are wanted, one or more, not of shapes {shapes}")
        if len(held) != len(self.param.top):
            raise self.fail(f"an array for each of its tops is wanted ({', '.join(self.param.top)}), not {len(held)} arrays")
        want = self._said()
        if want and held[0].shape[1:] != want:
            raise self.fail(f"images of shape {want} are wanted, as memory_data_param says, not {held[0].shape[1:]}")
        self.arrays, self.place_in_data = held, 0

    def _said(self) -> tuple[int, ...]:
        param = self.param_of("memory_data_param")
        sizes = (param.channels, param.height, param.width)
        return () if None in sizes else sizes

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        size = self.param_of("memory_data_param").batch_size
        if not size:
            raise self.fail("a batch_size of 1 or more is wanted")
        self.batch_size: int = size
        self.transformer = Transformer(self)
        shapes = [a.shape[1:] for a in self.arrays] or [self._said(), *[()] * (len(top) - 1)]
        for blob, shape in zip(top, [self.transformer.shape(shapes[0]), *shapes[1:]] if shapes[0] else shapes):
            blob.reshape(size, *shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.arrays:
            raise self.fail("there are no examples yet: give arrays as inputs= of the net, or with feed(data, labels) of the layer")
        count = len(self.arrays[0])
        rows = (self.place_in_data + np.arange(self.batch_size)) % count
        self.place_in_data = (self.place_in_data + self.batch_size) % count
        for i, (blob, array) in enumerate(zip(top, self.arrays)):
            _put(blob, self.transformer(array[rows]) if i == 0 else array[rows])


def _put(blob: Blob, values: Any) -> None:
    """Give a blob the shape and the values of a host's array."""
    blob.reshape(*values.shape)
    blob.data = np.ascontiguousarray(values, dtype="float64" if values.dtype == np.float64 else "float32")


class Reader(DataLayer):
    """A layer that reads examples one after the other, for ever."""

    param_name = ""
    max_tops: ClassVar[int | None] = 2

    def examples(self) -> _Examples:
        """Give examples: a value for each top."""
        raise NotImplementedError

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.batch_size: int = self.param_of(self.param_name).batch_size
        if not self.batch_size:
            raise self.fail("a batch_size of 1 or more is wanted")
        self.transformer = Transformer(self)
        stream = self.examples()
        first = next(stream)
        self.stream = chain([first], stream)
        skip = self._skipped()
        next(islice(self.stream, skip, skip), None)
        for i, (blob, value) in enumerate(zip(top, first)):
            shape = np.shape(value)
            blob.reshape(self.batch_size, *(self.transformer.shape(shape) if i == 0 else shape))

    def _skipped(self) -> int:
        most = self.param_of(self.param_name).rand_skip
        return int(self.generator.integers(0, most)) if most else 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        batch = list(islice(self.stream, self.batch_size))
        for i, blob in enumerate(top):
            shapes = {np.shape(example[i]) for example in batch}
            if len(shapes) > 1:
                raise self.fail(f"the examples of a batch have different shapes: {', '.join(map(str, sorted(shapes)))}")
            values = np.stack([np.asarray(example[i]) for example in batch])
            _put(blob, self.transformer(values) if i == 0 else values)


@register("HDF5Data")
class HDF5Data(Reader):
    """Examples of HDF5 files, listed in the text file ``source``: the datasets are named as the tops."""

    param_name = "hdf5_data_param"
    max_tops = None

    def _skipped(self) -> int:
        return 0

    def examples(self) -> _Examples:
        if self.param.has("transform_param"):
            raise self.fail("it transforms nothing: leave transform_param out")
        param = self.param_of("hdf5_data_param")
        files = lines_of(self, param.source)
        while True:
            for i in self.generator.permutation(len(files)) if param.shuffle else range(len(files)):
                arrays = self._read(files[i])
                count = len(arrays[0])
                for row in self.generator.permutation(count) if param.shuffle else range(count):
                    yield tuple(array[row] for array in arrays)

    def _read(self, path: str) -> list[Any]:
        with hdf5(path, "r", "a layer of the type HDF5Data") as file:
            missing = [name for name in self.param.top if name not in file]
            if missing:
                raise self.fail(f"{path} has no dataset {missing[0]!r}; it has {', '.join(file)}")
            arrays = [file[name][()] for name in self.param.top]
        if len({len(a) for a in arrays}) != 1 or not len(arrays[0]):
            raise self.fail(f"the datasets of {path} have {', '.join(str(len(a)) for a in arrays)} examples")
        return arrays


@register("ImageData")
class ImageData(Reader):
    """Images of files, listed with their labels in the text file ``source``; channels are in the order blue, green, red."""

    param_name = "image_data_param"

    def examples(self) -> _Examples:
        param = self.param_of("image_data_param")
        if bool(param.new_height) != bool(param.new_width):
            raise self.fail("new_height and new_width are given both or none")
        size = (param.new_height, param.new_width) if param.new_height else None
        listed = [line.rpartition(" ") for line in lines_of(self, param.source)]
        for path, _, label in listed:
            if not path or not label.lstrip("-").isdigit():
                raise self.fail(
                    f"each line of {param.source} is a path, a space and a label, an integer; not {f'{path} {label}'.strip()!r}"
                )
        while True:
            for i in self.generator.permutation(len(listed)) if param.shuffle else range(len(listed)):
                path, _, label = listed[i]
                yield decoded(inside(param.root_folder, path.strip()), param.is_color, size), float(label)


@register("WindowData")
class WindowData(DataLayer):
    """Windows of images, drawn from those that the file ``source`` lists: first of background, label 0, then ``fg_fraction`` of objects.

    Each is resized to ``crop_size``; with ``context_pad`` or a ``crop_mode`` of "square" it has some of the image around it.
    """

    exact_tops = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("window_data_param")
        self.transformer = Transformer(self)
        crop, mean = self.transformer.crop, self.transformer.mean
        if not p.batch_size:
            raise self.fail("a batch_size of 1 or more is wanted")
        if not crop or 2 * p.context_pad >= crop:
            raise self.fail(f"crop_size is {crop} and context_pad {p.context_pad}: the first is 1 or more, and more than twice the second")
        if mean is not None and (mean.shape[0] not in (1, 3) or (self.transformer.values is None and min(mean.shape[1:]) < crop)):
            raise self.fail(f"the mean is of 3 channels and not smaller than crop_size, {crop}; its shape is {mean.shape}")
        if p.crop_mode not in ("warp", "square"):
            raise self.fail(f"crop_mode is 'warp' or 'square', not {p.crop_mode!r}")
        found = read_windows(source_of(self, p.source))
        objects = [window for window in found if window.overlap >= p.fg_threshold]
        ground = [window._replace(label=0) for window in found if window.overlap < min(p.bg_threshold, p.fg_threshold)]
        count = int(np.float32(p.batch_size) * np.float32(p.fg_fraction))
        self.kinds = [(ground, p.batch_size - count), (objects, count)]
        for window in objects:
            if window.label < 1:
                raise self.fail(f"{window.where}: the label of an object is 1 or more, not {window.label}")
        for what, (windows, wanted) in zip(("background", "objects"), self.kinds):
            if wanted and not windows:
                raise self.fail(
                    f"its source {p.source} has no windows of {what}: of an overlap below bg_threshold, or from fg_threshold on"
                )
        self.images: dict[str, Any] = {}
        top[0].reshape(p.batch_size, 3, crop, crop)
        top[1].reshape(p.batch_size)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        draw = self.generator.integers
        values, labels = np.zeros(top[0].shape, dtype="float32"), list[float]()
        for windows, count in self.kinds:
            for _ in range(count):
                window = windows[int(draw(0, len(windows)))]
                mirror = self.transformer.mirror and bool(draw(0, 2))
                self._fill(values[len(labels)], window, mirror)
                labels.append(window.label)
        _put(top[0], values)
        _put(top[1], np.asarray(labels, dtype="float32"))

    def _fill(self, into: Any, window: Window, mirror: bool) -> None:
        p, how = self.param_of("window_data_param"), self.transformer
        pixels = self.images.get(window.path)
        if pixels is None:
            pixels = decoded(inside(p.root_folder, window.path), True)
            if p.cache_images:
                self.images[window.path] = pixels
        patch, rows, columns = cut(pixels, window, how.crop, p.context_pad, p.crop_mode == "square", mirror)
        mean: Any = 0 if how.mean is None else how.mean
        if how.mean is not None and how.values is None:
            start = (how.mean.shape[-1] - how.crop) // 2
            mean = how.mean[:, start:, start:][:, rows, columns]
        into[:, rows, columns] = (patch - mean) * how.scale


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its bottoms to a file, as the datasets "data" and "label", of four axes: what each forward sees behind what the last one saw."""

    exact_bottoms, exact_tops = 2, 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param_of("hdf5_output_param").file_name:
            raise self.fail("it needs a file_name")
        self._file("w").close()

    def _file(self, mode: str) -> Any:
        try:
            return hdf5(self.param_of("hdf5_output_param").file_name, mode, "a layer of the type HDF5Output")
        except DefinitionError as error:
            raise self.fail(str(error)) from error

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].num != bottom[1].num:
            raise self.fail(f"its bottoms have as many rows, not shapes {bottom[0].shape} and {bottom[1].shape}")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        with self._file("a") as file:
            for name, blob in zip(("data", "label"), bottom, strict=True):
                x = host(detached(blob.data)).reshape(blob.num, blob.channels, blob.height, blob.width)
                if name not in file:
                    file.create_dataset(name, data=x, maxshape=(None, *x.shape[1:]))
                    continue
                held = file[name]
                if held.shape[1:] != x.shape[1:]:
                    raise self.fail(f"its dataset {name!r} has rows of shape {held.shape[1:]}, and {blob.name!r} of shape {x.shape[1:]}")
                held.resize(len(held) + len(x), axis=0)
                held[len(held) - len(x) :] = x

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Do nothing."""


@register("Data")
class Data(Reader):
    """Examples of an LMDB database of Datum messages, in the order of their keys."""

    param_name = "data_param"

    def examples(self) -> _Examples:
        param = self.param_of("data_param")
        instead = "; or give arrays or shapes in its place: caffe.Net(..., inputs={'data': ..., 'label': ...})"
        if param.backend != "LMDB":
            raise self.fail(f"LevelDB databases are not read: convert {param.source!r} to LMDB and say 'backend: LMDB'{instead}")
        if not param.source or not Path(param.source).exists():
            raise self.fail(f"there is no database {param.source!r}, its source{instead}")
        base = lmdb_at(Path(param.source))
        with base.begin() as transaction:
            if not base.stat()["entries"]:
                raise self.fail(f"the database {param.source!r} is empty")
            while True:
                for key, value in transaction.cursor():
                    yield self._example(decode(value, "Datum", f"{param.source}, key {key!r}"))

    def _example(self, datum: Message) -> tuple[Any, float]:
        param = self.param.transform_param
        label = float(datum.label or 0)
        if datum.encoded:
            if param.force_color and param.force_gray:
                raise self.fail("force_color and force_gray are both set")
            return decoded(io.BytesIO(datum.data), True if param.force_color else False if param.force_gray else None), label
        shape = datum.channels, datum.height, datum.width
        raw = datum.data
        values = np.frombuffer(raw, dtype="uint8") if raw else np.asarray(datum.float_data, dtype="float32")
        if values.size != np.prod(shape):
            raise self.fail(f"{datum.where}: {values.size} numbers for a shape of {shape}")
        return values.reshape(shape), label
