"""Dtypes, Pillow's images, and normalization."""

from __future__ import annotations

from typing import Any

import agnostic_ad as ad
from agnostic_ad.config import dtype_name
from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.base import Transform
from agnostic_ad.nn.data.transforms.functional.conversion import normalizers
from agnostic_ad.nn.data.transforms.functional.pixels import numbers, on_host, there, wide
from agnostic_ad.nn.data.transforms.layouts import on_images

__all__ = ["LinearTransformation", "Normalize", "PILToTensor", "ToDtype", "ToImage", "ToPILImage", "ToTensor"]


class ToDtype(Transform):
    """Give images another dtype.

    Parameters
    ----------
    dtype : dtype or str
        A library's own, or its name.
    scale : bool
        Whether white stays white: 1 in floating point, the largest integer of others.
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.ToDtype("float32", scale=True)(np.asarray([[0, 255]], "uint8"))
    array([[0., 1.]], dtype=float32)
    """

    def __init__(self, dtype: Any, scale: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.dtype, self.scale = dtype_name(dtype), scale

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Convert."""
        return TF.to_dtype(inpt, self.dtype, self.scale)


class _OfPillow(Transform):
    def takes(self, leaf: Any) -> bool:
        """Tell whether a part of a sample is an image of Pillow, or an array."""
        return super().takes(leaf) or type(leaf).__module__.startswith("PIL.")


class ToImage(_OfPillow):
    """Make arrays (C, H, W), without scaling, of Pillow's images and of arrays (H, W) and (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.ToImage()(np.zeros((28, 28), "uint8")).shape
    (1, 28, 28)
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Convert."""
        return TF.to_image(inpt)


class ToTensor(_OfPillow):
    """Make what `ToImage` makes; uint8 becomes float32 between 0 and 1."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Convert."""
        return TF.to_tensor(inpt)


class PILToTensor(_OfPillow):
    """Make NumPy arrays (C, H, W) of Pillow's images, without scaling."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Convert."""
        return TF.pil_to_tensor(inpt)


class ToPILImage(Transform):
    """Make one of Pillow's images of an array; ``mode`` is Pillow's name of what its channels are."""

    def __init__(self, mode: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.mode = mode

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Convert."""
        return TF.to_pil_image(inpt, self.mode)


class Normalize(Transform):
    """Take the mean away and divide by the standard deviation, channel by channel.

    Parameters
    ----------
    mean, std : number or sequence of number
        One for all, or one for each channel; no std is 0.
    inplace : bool
        Accepted for torchvision's sake; the result is a new array.
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.Normalize([0.5], [0.25])(np.asarray([[[0.5, 1.0]]]))
    array([[[0., 2.]]])
    """

    def __init__(self, mean: Any, std: Any, inplace: bool = False, **options: Any) -> None:
        super().__init__(**options)
        shift, width = normalizers(mean, std, self.name)
        self.mean, self.std, self.inplace = shift.tolist(), width.tolist(), inplace

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Normalize."""
        return TF.normalize(inpt, self.mean, self.std)


class LinearTransformation(Transform):
    """Take a vector away from each image as a vector (channels, then rows, then columns), and multiply by a matrix, as for whitening.

    Parameters
    ----------
    transformation_matrix : array
        Shape (D, D), with D = C H W.
    mean_vector : array
        Shape (D,).
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(self, transformation_matrix: Any, mean_vector: Any, **options: Any) -> None:
        super().__init__(**options)
        self._mean = numbers(self.name, "mean_vector", mean_vector)
        self._matrix = on_host(transformation_matrix)
        if self._matrix.shape != (len(self._mean),) * 2:
            raise ValueError(
                f"LinearTransformation: a matrix (D, D) and a vector (D,) are wanted, not {self._matrix.shape} and ({len(self._mean)},)"
            )

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Multiply."""
        return _linear(inpt, self._matrix, self._mean)

    def extra_repr(self) -> str:
        """Give the size."""
        return f"D={len(self._mean)}"


@on_images
def _linear(image: Any, matrix: Any, mean: Any) -> Any:
    shape, xp = tuple(image.shape), ad.namespace(image)
    if shape[-3] * shape[-2] * shape[-1] != len(mean):
        raise ValueError(f"LinearTransformation is for images of {len(mean)} values, and one of shape {shape[-3:]} has another number")
    x = xp.reshape(wide(image), (-1, len(mean))) - there(image, mean, wide(image).dtype)
    return xp.reshape(x @ there(x, matrix, x.dtype), shape)
