"""Files in folders, where a folder's name is the class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agnostic_ad.nn.data.dataset import DamagedSample, Dataset, DatasetError

__all__ = ["DatasetFolder", "ImageFolder", "load_image"]

OnError = Literal["raise", "skip"]
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def skips(what: str, on_error: str) -> bool:
    """Tell whether damaged samples are left out; refuse what is neither "raise" nor "skip"."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f'{what}: on_error is "raise" or "skip", not {on_error!r}')
    return on_error == "skip"


def load_image(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Read an image with Pillow, as an array of uint8 of shape (height, width, 3)."""
    try:
        from PIL import Image
    except ImportError:
        raise DatasetError("images are read with Pillow: pip install 'agnostic_ad[data]'") from None
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


class DatasetFolder(Dataset):
    """Files in folders below ``root``, one folder a class: ``root/cat/1.png``, ``root/dog/deeper/2.png``. Samples are (file, class).

    Parameters
    ----------
    root : path
        The folder of the classes' folders.
    loader : callable
        Makes a sample of a file's path.
    extensions : str or sequence of str, optional
        With which endings of their names files count, in any case of letters.
    transform, target_transform : callable, optional
        Applied to what ``loader`` gives, and to the number of the class.
    is_valid_file : callable, optional
        Tells of a path whether it counts; in place of ``extensions``.
    allow_empty : bool
        Whether a class may be without files.
    on_error : "raise" or "skip"
        What happens with a file that ``loader`` fails at: an error, which names it; or a `DataLoader` warns and goes on without it.

    Attributes
    ----------
    classes : list of str
        The names of the classes, sorted.
    class_to_idx : dict of str to int
        Their numbers.
    samples : list of (str, int)
        The path and the class of each file.
    targets : list of int
        The class of each file.

    Raises
    ------
    DatasetError
        If there are no classes, or one without files.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        loader: Callable[[str], Any],
        extensions: str | Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
        *,
        on_error: OnError = "raise",
    ) -> None:
        what = type(self).__name__
        if (extensions is None) == (is_valid_file is None):
            raise ValueError(f"{what} takes extensions or is_valid_file, one of them")
        self.root, self.loader, self.extensions = os.fspath(root), loader, extensions
        self.transform, self.target_transform = transform, target_transform
        self.skip = skips(what, on_error)
        if not os.path.isdir(root):
            raise DatasetError(f"{what}: there is no folder {root}")
        self.classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        if not self.classes:
            raise DatasetError(f"{what}: there are no folders in {root}, one for each class")
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        if extensions is not None:
            endings = tuple(each.lower() for each in ([extensions] if isinstance(extensions, str) else extensions))
            is_valid_file = lambda path: path.lower().endswith(endings)
        assert is_valid_file is not None
        self.samples: list[tuple[str, int]] = []
        for name, number in self.class_to_idx.items():
            before = len(self.samples)
            for folder, below, files in os.walk(os.path.join(self.root, name), followlinks=True):
                below.sort()
                self.samples += [(path, number) for file in sorted(files) if is_valid_file(path := os.path.join(folder, file))]
            if len(self.samples) == before and not allow_empty:
                which = f" ({', '.join(endings)})" if extensions is not None else ""
                raise DatasetError(f"{what}: there are no files of a known kind{which} in {Path(root) / name}; allow_empty=True permits it")
        self.targets = [number for _, number in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        path, target = self.samples[index]
        try:
            sample = self.loader(path)
        except (DatasetError, MemoryError):
            raise
        except Exception as error:  # decoders raise what they like
            raise DamagedSample(int(index) % len(self), path, error, self.skip) from error
        return (
            sample if self.transform is None else self.transform(sample),
            target if self.target_transform is None else self.target_transform(target),
        )


class ImageFolder(DatasetFolder):
    """Images in folders below ``root``, one folder a class: ``root/cat/1.png``. Samples are (image, class).

    Images come as arrays of uint8 of shape (height, width, 3). To be put into batches they need one size, so ``transform`` has to see to
    it. The other parameters and the attributes are those of `DatasetFolder`.

    Parameters
    ----------
    root : path
        The folder of the classes' folders.
    transform, target_transform : callable, optional
        Applied to each image, and to each class.
    loader : callable
        Makes an image of a file's path; by default `load_image`, with Pillow.
    is_valid_file : callable, optional
        Tells of a path whether it counts; by default endings such as ``.png`` do.
    allow_empty : bool
        Whether a class may be without files.
    on_error : "raise" or "skip"
        What happens with a damaged image: an error, which names it; or a `DataLoader` warns and goes on without it.

    Examples
    --------
    >>> import numpy as np, pathlib
    >>> from PIL import Image
    >>> from agnostic_ad import nn
    >>> for name in ("cat", "dog"):
    ...     pathlib.Path("pets", name).mkdir(parents=True)
    ...     Image.fromarray(np.zeros((4, 6, 3), dtype="uint8")).save(f"pets/{name}/1.png")
    >>> data = nn.data.datasets.ImageFolder("pets")
    >>> data.classes, data[1][0].shape, data[1][1]
    (['cat', 'dog'], (4, 6, 3), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] = load_image,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
        *,
        on_error: OnError = "raise",
    ) -> None:
        extensions = IMAGES if is_valid_file is None else None
        super().__init__(root, loader, extensions, transform, target_transform, is_valid_file, allow_empty, on_error=on_error)
        self.imgs = self.samples
