"""The transforms: what they draw, from what, which parts of a sample they change, and what they refuse."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import support
from PIL import Image
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import agnostic_ad as ad
from agnostic_ad.nn.data import seeding
from agnostic_ad.nn.data import transforms as T
from agnostic_ad.nn.data.transforms import functional as TF

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 256, (16, 18, 3), dtype="uint8")
FLOAT = np.moveaxis(IMAGE, -1, 0).astype("float32") / np.float32(255)

RANDOM: dict[str, Any] = {
    "RandomApply": lambda **o: T.RandomApply([T.RandomCrop(9)], 0.5, **o),
    "RandomChoice": lambda **o: T.RandomChoice([T.RandomCrop(9), T.RandomRotation(50)], **o),
    "RandomOrder": lambda **o: T.RandomOrder([T.RandomCrop(9), T.RandomResize(10, 15)], **o),
    "RandomResize": lambda **o: T.RandomResize(5, 30, **o),
    "RandomShortestSize": lambda **o: T.RandomShortestSize([5, 8, 11, 20], 25, **o),
    "ScaleJitter": lambda **o: T.ScaleJitter((20, 20), **o),
    "RandomCrop": lambda **o: T.RandomCrop((9, 8), padding=2, **o),
    "RandomResizedCrop": lambda **o: T.RandomResizedCrop(8, **o),
    "RandomZoomOut": lambda **o: T.RandomZoomOut(3, **o),
    "RandomHorizontalFlip": T.RandomHorizontalFlip,
    "RandomVerticalFlip": T.RandomVerticalFlip,
    "RandomRotation": lambda **o: T.RandomRotation(80, **o),
    "RandomAffine": lambda **o: T.RandomAffine(30, (0.2, 0.3), (0.6, 1.4), (-9, 9, -3, 3), **o),
    "RandomPerspective": lambda **o: T.RandomPerspective(p=0.9, **o),
    "ElasticTransform": lambda **o: T.ElasticTransform(30.0, 2.0, **o),
    "ColorJitter": lambda **o: T.ColorJitter(0.5, 0.5, 0.5, 0.2, **o),
    "RandomPhotometricDistort": T.RandomPhotometricDistort,
    "RandomChannelPermutation": T.RandomChannelPermutation,
    "RandomGrayscale": lambda **o: T.RandomGrayscale(0.5, **o),
    "GaussianBlur": lambda **o: T.GaussianBlur(5, **o),
    "GaussianNoise": T.GaussianNoise,
    "RandomInvert": T.RandomInvert,
    "RandomPosterize": lambda **o: T.RandomPosterize(2, **o),
    "RandomSolarize": lambda **o: T.RandomSolarize(0.5, **o),
    "RandomAdjustSharpness": lambda **o: T.RandomAdjustSharpness(3.0, **o),
    "RandomAutocontrast": T.RandomAutocontrast,
    "RandomEqualize": T.RandomEqualize,
    "RandomErasing": lambda **o: T.RandomErasing(0.8, value="random", **o),
    "JPEG": lambda **o: T.JPEG((5, 95), **o),
    "AutoAugment": T.AutoAugment,
    "RandAugment": T.RandAugment,
    "TrivialAugmentWide": T.TrivialAugmentWide,
    "AugMix": T.AugMix,
}
SURE: dict[str, Any] = {
    "Compose": lambda: T.Compose([T.Resize(8), T.CenterCrop(6)]),
    "Identity": T.Identity,
    "Resize": lambda: T.Resize((5, 6)),
    "CenterCrop": lambda: T.CenterCrop(7),
    "Pad": lambda: T.Pad((1, 2), 4, "edge"),
    "Grayscale": T.Grayscale,
    "ToDtype": lambda: T.ToDtype("float64", scale=True),
    "ToImage": T.ToImage,
    "ToTensor": T.ToTensor,
    "Normalize": lambda: T.Compose([T.ToDtype("float32", scale=True), T.Normalize([0.5] * 3, [0.2] * 3)]),
}


def image_for(name: str) -> Any:
    return FLOAT if name == "RandomErasing" else IMAGE  # whose noise is for floating point


def as_bytes(x: Any) -> Any:
    return [as_bytes(part) for part in x] if isinstance(x, tuple) else (x.shape, x.dtype, x.tobytes())


# --- streams ------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_decides(name: str) -> None:
    x = image_for(name)
    runs = [[as_bytes(t(x)) for _ in range(12)] for t in (RANDOM[name](generator=np.random.default_rng(s)) for s in (5, 5, 6))]
    assert runs[0] == runs[1] != runs[2]
    assert len({str(run) for run in runs[0]}) > 1  # it draws anew for each call
    with seeding.drawing_from(np.random.default_rng(5)):  # as a loader does for each sample
        t = RANDOM[name]()
        assert [as_bytes(t(x)) for _ in range(12)] == runs[0]
    ours = [as_bytes(RANDOM[name](generator=ad.Generator(4))(x)) for _ in range(2)]
    ad.manual_seed(4)
    assert ours[0] == ours[1] == as_bytes(RANDOM[name]()(x))


@pytest.mark.parametrize("name", RANDOM)
def test_global_state_stays(name: str) -> None:
    before = str(np.random.get_state()), str(ad.random.default_generator.get_state())
    RANDOM[name](generator=np.random.default_rng(0))(image_for(name))
    assert before == (str(np.random.get_state()), str(ad.random.default_generator.get_state()))


@pytest.mark.backend
@pytest.mark.parametrize("name", [name for name in RANDOM if name != "JPEG"])
def test_every_library_draws_the_same(name: str, backend: support.Backend) -> None:
    x = image_for(name)[None] if name == "AugMix" else image_for(name)
    for seed in range(2):
        want = RANDOM[name](generator=np.random.default_rng(seed))(x)
        got = RANDOM[name](generator=np.random.default_rng(seed))(backend.asarray(x))
        assert type(got) is type(backend.asarray(0.0)) and tuple(got.shape) == want.shape and backend.numpy(got).dtype == want.dtype
        apart = np.abs(backend.numpy(got).astype("float64") - want.astype("float64"))
        assert apart.max() <= (1e-4 if want.dtype == np.float32 else 255) and (apart > 2).mean() < 0.01  # a solarized 127 or 128


@pytest.mark.parametrize("name", [*RANDOM, *SURE])
def test_it_leaves_its_input_and_labels_alone(name: str) -> None:
    make = RANDOM.get(name, SURE.get(name))
    x = image_for(name).copy()
    before, transform = x.copy(), make()
    y, label = transform((x, 7))
    assert label == 7 and (x == before).all() and y.ndim in (2, 3)
    sample = transform({"label": np.asarray([1, 2]), "image": x, "name": "a", "none": None})
    assert list(sample) == ["label", "image", "name", "none"] and sample["label"].tolist() == [1, 2] and sample["name"] == "a"
    ad.manual_seed(0)
    a = transform(x)
    ad.manual_seed(0)
    b = pickle.loads(pickle.dumps(transform))(x)
    assert as_bytes(a) == as_bytes(b)
    assert repr(transform).startswith(f"{type(transform).__name__}(")


@pytest.mark.parametrize("name", [name for name in RANDOM if name not in ("GaussianNoise", "AugMix")])
def test_a_batch_has_one_draw(name: str) -> None:
    x = image_for(name)
    one = RANDOM[name](generator=np.random.default_rng(2))(x)
    many = RANDOM[name](generator=np.random.default_rng(2))(np.stack([x, x, x]))
    for y in many:
        np.testing.assert_array_equal(y, one)


def test_probabilities() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(6, dtype="uint8").reshape(2, 3)
    for p in (0.0, 0.3, 1.0):
        flip = T.RandomHorizontalFlip(p, generator=rng)
        hits = sum((flip(x) != x).any() for _ in range(400)) / 400
        assert abs(hits - p) <= (0.07 if 0 < p < 1 else 0)  # three standard deviations of 400 draws
    choice = T.RandomChoice([T.Identity(), T.RandomInvert(1.0)], [1, 3], generator=rng)
    assert abs(sum((choice(x) != x).any() for _ in range(400)) / 400 - 0.75) < 0.07
    with seeding.drawing_from(rng):
        orders = {tuple(T.RandomOrder([T.Identity()] * 3).order()) for _ in range(100)}
    assert len(orders) == 6 and all(sorted(order) == [0, 1, 2] for order in orders)


# --- parameters ---------------------------------------------------------------------------------------------------------------------------
def params(transform: T.Transform, x: Any = IMAGE, count: int = 200) -> list[dict[str, Any]]:
    with seeding.drawing_from(np.random.default_rng(1)):
        return [transform.make_params([x]) for _ in range(count)]


def test_ranges() -> None:
    angles = [p["angle"] for p in params(T.RandomRotation((10, 40)))]
    assert 10 <= min(angles) < 14 and 36 < max(angles) <= 40
    moves = params(T.RandomAffine(5, (0.25, 0.5), (0.5, 2.0), 8))
    assert {p["translate"][0] for p in moves} <= set(range(-5, 6)) and {p["translate"][1] for p in moves} == set(range(-8, 9))
    assert all(0.5 <= p["scale"] <= 2 and abs(p["shear"][0]) <= 8 and p["shear"][1] == 0 and abs(p["angle"]) <= 5 for p in moves)
    crops = params(T.RandomCrop(14, padding=1))
    assert {p["top"] for p in crops} == set(range(5)) and {p["left"] for p in crops} == set(range(7))
    for p in params(T.RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2.0))):
        assert 0.15 < p["height"] * p["width"] / (16 * 18) < 0.6 and 0.4 < p["width"] / p["height"] < 2.4
        assert 0 <= p["top"] <= 16 - p["height"] and 0 <= p["left"] <= 18 - p["width"]
    assert params(T.RandomResizedCrop(8, scale=(9, 9)))[0] == {"top": 0, "left": 0, "height": 16, "width": 18}
    assert params(T.RandomResizedCrop(8, scale=(9, 9), ratio=(4, 5)))[0] == {"top": 6, "left": 0, "height": 4, "width": 18}
    assert {p["size"] for p in params(T.RandomResize(5, 9))} == {5, 6, 7, 8}
    assert {p["size"] for p in params(T.RandomShortestSize([8, 32], 27))} == {(8, 9), (24, 27)}
    for p in params(T.RandomZoomOut(side_range=(2, 3))):
        left, top, right, bottom = p["padding"]
        assert min(p["padding"]) >= 0 and 18 <= left + right <= 36 and 16 <= top + bottom <= 32
    for p in params(T.RandomErasing(scale=(0.1, 0.2), ratio=(1, 1))):
        assert p["h"] == p["w"] and 0.06 < p["h"] * p["w"] / 288 < 0.25
    assert all(0.1 <= p["sigma"] <= 2.0 for p in params(T.GaussianBlur(3)))
    assert params(T.GaussianBlur(3, 1.5))[0] == {"sigma": 1.5}
    jitter = params(T.ColorJitter(0.4, hue=(0.1, 0.2)))
    assert all({name for name, _ in p["steps"]} == {"brightness", "hue"} for p in jitter)
    assert all(0.6 <= dict(p["steps"])["brightness"] <= 1.4 and 0.1 <= dict(p["steps"])["hue"] <= 0.2 for p in jitter)
    assert len({p["steps"][0][0] for p in jitter}) == 2
    corners = [p["coefficients"] for p in params(T.RandomPerspective(0.0))]
    np.testing.assert_allclose(corners[0], [1, 0, 0, 0, 1, 0, 0, 0], atol=1e-12)


def test_policies() -> None:
    assert {name for p in params(T.RandAugment(3)) for name, _ in p["steps"]} == {
        "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize",
        "AutoContrast", "Equalize",
    }  # fmt: skip
    strengths = {(name, round(m, 9)) for p in params(T.RandAugment(1, 15, 31)) for name, m in p["steps"]}
    assert (
        {m for name, m in strengths if name == "Rotate"} == {-15.0, 15.0}
        and ("Posterize", 6) in strengths
        and ("Solarize", 0.5) in strengths
    )
    assert {abs(m) for name, m in strengths if name == "TranslateX"} == {round(75 / 331 * 18, 9)}
    wide = {(name, abs(round(m, 9))) for p in params(T.TrivialAugmentWide(3), count=300) for name, m in p["steps"]}
    assert ("Rotate", 135.0) in wide and ("TranslateX", 16.0) in wide and ("Posterize", 2) in wide and ("ShearY", 0.99) in wide
    for policy in T.AutoAugmentPolicy:
        drawn = params(T.AutoAugment(policy))
        assert all(len(p["steps"]) <= 2 for p in drawn) and len({str(p["steps"]) for p in drawn}) > 25
    assert T.AutoAugment("svhn").policy is T.AutoAugmentPolicy.SVHN
    for p in params(T.AugMix(mixture_width=2, chain_depth=2), np.stack([IMAGE] * 3), 5):
        np.testing.assert_allclose(p["own"][..., None].sum(-1) + p["parts"].sum(-1), np.ones((3, 1, 1, 1)))
        assert [len(chain) for chain in p["chains"]] == [2, 2]
    parts = {"own": np.full((1, 1, 1), 0.5), "parts": np.asarray([[[[0.25, 0.25]]]]), "chains": [[("Invert", 0.0)], [("Identity", 0.0)]]}
    want = np.floor(0.5 * IMAGE + 0.25 * (255.0 - IMAGE) + 0.25 * IMAGE)
    np.testing.assert_array_equal(T.AugMix().transform(IMAGE, parts), want)


def test_a_policy_by_hand() -> None:
    t = T.RandAugment(fill=9)
    for steps, want in (
        ([("Identity", 0.0)], IMAGE),
        ([("Invert", 0.0), ("Posterize", 4)], TF.posterize(255 - IMAGE, 4)),
        ([("TranslateX", 3.7)], TF.affine(IMAGE, 0, (3, 0), 1.0, 0.0, fill=9)),
        ([("Solarize", 0.5)], np.where(IMAGE >= 128, 255 - IMAGE, IMAGE)),
        ([("Rotate", 20.0)], TF.rotate(IMAGE, 20.0, fill=9)),
        ([("Color", -0.5)], TF.adjust_saturation(IMAGE, 0.5)),
    ):
        np.testing.assert_array_equal(t.transform(IMAGE, {"steps": steps}), want)
    x = np.arange(1, 26, dtype="uint8").reshape(5, 5)  # a shear by 1: each row one further than that above
    np.testing.assert_array_equal(t.transform(x, {"steps": [("ShearX", 1.0)]})[1:, 0], x[[1, 2, 3, 4], [1, 2, 3, 4]])


# --- samples ------------------------------------------------------------------------------------------------------------------------------
class Pair(NamedTuple):
    image: Any
    label: int


def test_samples() -> None:
    flip = T.RandomHorizontalFlip(1.0)
    pair = flip(Pair(IMAGE, 3))
    assert isinstance(pair, Pair) and pair.label == 3 and (pair.image == IMAGE[:, ::-1]).all()
    image, label, mask = flip(IMAGE, 3, IMAGE[..., 0])
    assert (image == IMAGE[:, ::-1]).all() and label == 3 and (mask == IMAGE[..., 0]).all()
    crops, label = T.FiveCrop(5)((IMAGE, 1))
    assert len(crops) == 5 and label == 1
    assert len(T.TenCrop(5, vertical_flip=True)(IMAGE)) == 10
    nested = T.Compose([flip, T.ToTensor()])({"x": [IMAGE, (np.asarray(4), "b")]})
    np.testing.assert_allclose(nested["x"][0], FLOAT[..., ::-1])
    assert nested["x"][1] == (4, "b")
    x, y = T.ToTensor()((Image.fromarray(IMAGE), 2))
    np.testing.assert_allclose(x, FLOAT)
    assert y == 2 and T.PILToTensor()(Image.fromarray(IMAGE)).shape == (3, 16, 18) and T.ToPILImage()((FLOAT, 1))[0].size == (18, 16)
    assert T.Lambda(lambda n: n + 1, int)((1, "a")) == (2, "a")
    assert T.Compose([lambda x, y: (x + y, y)])(1, 2) == (3, 2)
    v = ad.Variable(FLOAT)
    assert isinstance(T.CenterCrop(4)((v, 1))[0], ad.Variable)


def test_layout_of_a_transform() -> None:
    grey = RNG.integers(0, 256, (64, 8, 9), dtype="uint8")
    np.testing.assert_array_equal(T.RandomVerticalFlip(1.0, layout="HW")(grey), grey[:, ::-1])
    np.testing.assert_array_equal(T.Compose([T.RandomVerticalFlip(1.0)], layout="HW")(grey), grey[:, ::-1])
    np.testing.assert_array_equal(T.RandomHorizontalFlip(1.0, layout="HWC")(FLOAT), FLOAT[:, ::-1])


def test_linear_transformation() -> None:
    x = RNG.uniform(size=(2, 3, 2, 2))
    matrix, mean = RNG.normal(size=(12, 12)), RNG.normal(size=12)
    want = ((x.reshape(2, 12) - mean) @ matrix).reshape(x.shape)
    t = T.LinearTransformation(matrix, mean)
    np.testing.assert_allclose(t(x), want)
    np.testing.assert_allclose(t(np.moveaxis(x, 1, -1)), np.moveaxis(want, 1, -1))


def test_what_is_printed() -> None:
    assert repr(T.Compose([T.RandomApply([T.RandomInvert(0.2)]), T.ByteTokenizer()])) == (
        "Compose(\n  RandomApply(\n    RandomInvert(p=0.2)\n  )\n  ByteTokenizer(bos=False, eos=False)\n)"
    )


# --- mixtures -----------------------------------------------------------------------------------------------------------------------------
@pytest.mark.backend
def test_mixup(backend: support.Backend) -> None:
    x, y = RNG.uniform(size=(4, 3, 5, 6)).astype("float32"), np.asarray([0, 2, 1, 2])
    lam = float(np.random.default_rng(8).beta(0.4, 0.4))
    mixed, labels = T.MixUp(alpha=0.4, num_classes=3, generator=np.random.default_rng(8))(backend.asarray(x), backend.asarray(y))
    np.testing.assert_allclose(backend.numpy(mixed), lam * x + (1 - lam) * np.roll(x, 1, axis=0), rtol=1e-5)
    np.testing.assert_allclose(backend.numpy(labels), lam * np.eye(3)[y] + (1 - lam) * np.eye(3)[np.roll(y, 1)], rtol=1e-6)
    assert backend.numpy(labels).dtype == np.float32


@pytest.mark.backend
def test_cutmix(backend: support.Backend) -> None:
    x, y = np.arange(4, dtype="uint8")[:, None, None, None] + np.zeros((4, 9, 10, 3), "uint8"), np.eye(4, dtype="float32")
    with seeding.drawing_from(np.random.default_rng(5)):
        batch = T.CutMix(alpha=1.0)({"images": backend.asarray(x), "labels": backend.asarray(y)})
    images, labels = backend.numpy(batch["images"]), backend.numpy(batch["labels"])
    other = images[..., 0] == np.roll(np.arange(4), 1)[:, None, None]
    kept = images[..., 0] == np.arange(4)[:, None, None]
    assert (kept ^ other).all() and (other == other[0]).all() and 0 < other.mean() < 1
    rows, columns = np.flatnonzero(other[0].any(1)), np.flatnonzero(other[0].any(0))
    assert other[0].sum() == len(rows) * len(columns) and np.ptp(rows) == len(rows) - 1  # a rectangle
    np.testing.assert_allclose(labels, kept[0].mean() * y + other[0].mean() * np.roll(y, 1, axis=0), rtol=1e-6)


# --- tables -------------------------------------------------------------------------------------------------------------------------------
TABLE = np.where(RNG.uniform(size=(30, 4)) < 0.2, np.nan, RNG.integers(0, 6, (30, 4)).astype("float64"))


@pytest.mark.backend
def test_standardize(backend: support.Backend) -> None:
    want = StandardScaler().fit_transform(TABLE)
    scale = T.Standardize().fit(backend.asarray(TABLE))
    got = scale((backend.asarray(TABLE), 1))[0]
    np.testing.assert_allclose(backend.numpy(got), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(backend.numpy(scale.inverse(got)), TABLE, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(backend.numpy(scale(backend.asarray(TABLE[3]))), want[3], rtol=1e-10, atol=1e-12)
    again = T.Standardize().load_state_dict(scale.state_dict())
    np.testing.assert_array_equal(backend.numpy(again(backend.asarray(TABLE))), backend.numpy(got))
    flat = np.ones((3, 2), "float32")
    assert T.Standardize().fit(flat)(flat).tolist() == [[0.0, 0.0]] * 3 and T.Standardize().fit(flat)(flat).dtype == np.float32


@pytest.mark.backend
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
def test_impute(strategy: str, backend: support.Backend) -> None:
    want = SimpleImputer(strategy=strategy, fill_value=7.0 if strategy == "constant" else None).fit_transform(TABLE)
    got = T.Impute(strategy, 7.0).fit(TABLE)(backend.asarray(TABLE))
    np.testing.assert_allclose(backend.numpy(got), want, rtol=1e-12)


@pytest.mark.backend
def test_one_hot(backend: support.Backend) -> None:
    column = np.asarray([3, 5, 3, 9])
    want = OneHotEncoder(sparse_output=False).fit_transform(column[:, None])
    np.testing.assert_array_equal(backend.numpy(T.OneHot().fit(column)(backend.asarray(column))), want)
    np.testing.assert_array_equal(backend.numpy(T.OneHot([9, 3], "ignore")(backend.asarray(column))), [[0, 1], [0, 0], [0, 1], [1, 0]])
    with pytest.raises(ValueError, match="5 is none of the 2 categories; handle_unknown='ignore' gives zeros"):
        T.OneHot([9, 3])(backend.asarray(column))


def test_one_hot_of_values() -> None:
    colours = T.OneHot(["red", "blue"])
    assert colours("blue").tolist() == [0, 1] and colours(np.asarray([["red"]])).tolist() == [[[1, 0]]]
    assert T.OneHot([1, 2])(2).tolist() == [0, 1]
    assert T.OneHot().load_state_dict(colours.state_dict())("red").tolist() == [1, 0]


# --- text ---------------------------------------------------------------------------------------------------------------------------------
def test_characters() -> None:
    tokens = T.CharTokenizer().fit(["to be", "or not"])
    assert tokens.vocabulary == sorted(" benort") and len(tokens) == 7
    assert tokens.decode(tokens("not to be")) == "not to be" and tokens("t").dtype == np.int64 and tokens("").shape == (0,)
    assert tokens(("to", 1))[0].tolist() == tokens.encode("to").tolist()
    other = T.CharTokenizer("ab", unknown="?")
    assert other.encode("abc").tolist() == [1, 2, 0] and other.decode([0, 1]) == "?a"
    assert T.CharTokenizer().load_state_dict(other.state_dict()).encode("ca").tolist() == [0, 1]
    with pytest.raises(ValueError, match="'z' is not in the vocabulary; give unknown="):
        tokens("z")
    with pytest.raises(RuntimeError, match=r"call fit\(texts\) first"):
        T.CharTokenizer()("a")


@pytest.mark.backend
def test_bytes(backend: support.Backend) -> None:
    text = "naïve 文"
    tokens = T.ByteTokenizer(bos=True, eos=True)
    found = tokens(text)
    assert found.tolist() == [256, *text.encode(), 257] and len(tokens) == 258 and len(T.ByteTokenizer()) == 256
    assert tokens.decode(backend.asarray(found)) == text and T.ByteTokenizer().decode([0xFF]) == "\ufffd"


# --- what is refused ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: T.Resize(8)("a"), TypeError, "Resize takes an array of two axes or more, alone or in a sample; got str"),
        (lambda: T.Resize(8)(Image.fromarray(IMAGE)), TypeError, "put ToImage() before it, which makes an array of an image of Pillow"),
        (lambda: T.Resize(8)(np.zeros(3)), TypeError, "got ndarray of shape (3,)"),
        (lambda: T.Resize(8)(), TypeError, "Resize takes a sample; got nothing"),
        (lambda: T.Resize(8, seed=3), TypeError, "unexpected keyword argument 'seed'"),
        (lambda: T.Resize(-1), ValueError, "size is an integer of 1 or more, or (height, width), not -1"),
        (lambda: T.Resize(8, "box"), ValueError, "Resize: interpolation is one of"),
        (lambda: T.RandomHorizontalFlip(1.5), ValueError, "RandomHorizontalFlip: p lies between 0 and 1; got 1.5"),
        (lambda: T.RandomHorizontalFlip(generator=3), TypeError, "generator is a numpy.random.Generator or an agnostic_ad.Generator, not int"),
        (lambda: T.RandomCrop(20)(IMAGE), ValueError, "a crop of 20 x 20 pixels is larger than the image, 16 x 18 with its padding; give pad_if_needed=True"),
        (lambda: T.RandomResizedCrop(8, scale=(1, 0.5)), ValueError, "RandomResizedCrop: scale is a pair (min, max), 0 <= min <= max, not (1, 0.5)"),
        (lambda: T.RandomRotation(-5), ValueError, "degrees is a number of 0 or more, or a pair (min, max), not -5"),
        (lambda: T.RandomAffine(5, translate=(0.5, 2)), ValueError, "translate lies between 0 and 1; got 2"),
        (lambda: T.RandomAffine(5, center=3), ValueError, "center is (x, y) in pixels, not 3"),
        (lambda: T.RandomZoomOut(side_range=(0.5, 2)), ValueError, "side_range is a pair (min, max), 1 <= min <= max, not (0.5, 2)"),
        (lambda: T.ColorJitter(brightness=-1), ValueError, "brightness is a number of 0 or more, or a pair (min, max), not -1"),
        (lambda: T.ColorJitter(hue=0.7), ValueError, "hue is a pair (min, max), -0.5 <= min <= max <= 0.5"),
        (lambda: T.Grayscale(2), ValueError, "num_output_channels is 1 or 3, not 2"),
        (lambda: T.Grayscale()(np.zeros((9, 9, 4), "uint8")), ValueError, "takes images of 1 or 3 channels, and these have 4"),
        (lambda: T.RandomPosterize(9), ValueError, "bits is an integer between 0 and 8, not 9"),
        (lambda: T.RandomSolarize(300, 1.0)(IMAGE), ValueError, "threshold is at most white, 255 for dtype uint8; got 300"),
        (lambda: T.GaussianBlur(4), ValueError, "kernel_size is an odd integer, or two, not 4"),
        (lambda: T.GaussianBlur(3, (2, 1)), ValueError, "sigma is a pair (min, max)"),
        (lambda: T.GaussianNoise(sigma=-1), ValueError, "sigma one of 0 or more"),
        (lambda: T.RandomErasing(value="noise"), ValueError, "value is a number, one for each channel, or 'random', not 'noise'"),
        (lambda: T.RandomErasing(1.0, value=(1, 2))(FLOAT), ValueError, "value has 2 numbers, and the images have 3 channels"),
        (lambda: T.RandomErasing(1.0, value="random")(IMAGE), TypeError, "value='random' is normal noise, for floating point, not for uint8"),
        (lambda: T.JPEG(0), ValueError, "quality is a pair (min, max), 1 <= min <= max <= 100"),
        (lambda: T.Normalize([0.5], [0.0]), ValueError, "Normalize: std is above 0 for every channel, not [0.0]"),
        (lambda: T.Normalize([0.5], [0.5])(IMAGE), TypeError, "put ToDtype('float32', scale=True) before it"),
        (lambda: T.LinearTransformation(np.eye(3), np.zeros(4)), ValueError, "a matrix (D, D) and a vector (D,) are wanted, not (3, 3) and (4,)"),
        (lambda: T.LinearTransformation(np.eye(3), np.zeros(3))(FLOAT), ValueError, "is for images of 3 values"),
        (lambda: T.Compose([]), ValueError, "Compose takes a list of one transform or more"),
        (lambda: T.Compose([3]), TypeError, "Compose takes a list of transforms, and 3 is none"),
        (lambda: T.RandomChoice([T.Identity()], [0]), ValueError, "p is a weight of 0 or more for each of the 1 transforms, not [0]"),
        (lambda: T.AutoAugment("mnist"), ValueError, "policy is one of 'imagenet', 'cifar10', 'svhn', not 'mnist'"),
        (lambda: T.RandAugment(magnitude=31), ValueError, "magnitude is an integer between 0 and 30, not 31"),
        (lambda: T.AugMix(severity=11), ValueError, "severity is an integer between 1 and 10, not 11"),
        (lambda: T.MixUp(alpha=0), ValueError, "MixUp: alpha is a number above 0, not 0"),
        (lambda: T.MixUp()(np.zeros((2, 3, 4, 4)), np.zeros(2, int)), ValueError, "give num_classes, or labels as probabilities"),
        (lambda: T.MixUp(num_classes=2)(np.zeros((2, 3, 4, 4)), np.zeros(3, int)), ValueError, "there are 2 images and 3 labels"),
        (lambda: T.CutMix(num_classes=2)(FLOAT, np.zeros(2, int)), ValueError, "takes a batch of images, (N, C, H, W) or (N, H, W, C), not an array of shape"),
        (lambda: T.CutMix()(FLOAT[None]), ValueError, "CutMix takes labels beside the images"),
        (lambda: T.Standardize()(TABLE), RuntimeError, "Standardize knows no mean and no std yet: call fit(table) first"),
        (lambda: T.Standardize().fit(TABLE)(TABLE[:, :2]), ValueError, "was fitted to 4 columns, and this table of shape (30, 2) has 2"),
        (lambda: T.Standardize().fit(TABLE[0]), ValueError, "Standardize.fit takes a table of numbers, (rows, columns)"),
        (lambda: T.Impute("mode"), ValueError, "strategy is 'mean', 'median', 'most_frequent' or 'constant', not 'mode'"),
        (lambda: T.ByteTokenizer()(3), TypeError, "ByteTokenizer takes text (str), alone or in a sample; got int"),
        (lambda: T.ByteTokenizer().decode([256]), ValueError, "tokens lie between 0 and 255; got 256"),
        (lambda: T.Transform()(IMAGE), NotImplementedError, "Transform has no transform(inpt, params)"),
    ],
)  # fmt: skip
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["constant", "edge", "symmetric"])
def test_crops_of_padded_images(mode: str) -> None:
    crop = T.RandomCrop((20, 9), padding=(1, 2, 3, 4), pad_if_needed=True, fill=(1, 2, 3), padding_mode=mode)
    with pytest.raises(ValueError, match="larger than the image"):
        T.RandomCrop((50, 9), padding=3)(IMAGE)
    for p in [{"padding": (1, 2, 3, 4), "top": top, "left": left} for top in (0, 2) for left in (0, 5, 13)]:
        want = TF.crop(TF.pad(IMAGE, p["padding"], (1, 2, 3), mode), p["top"], p["left"], 20, 9)
        np.testing.assert_array_equal(crop.transform(IMAGE, p), want)
    small = np.arange(6, dtype="uint8").reshape(2, 3)
    assert {T.RandomCrop(4, pad_if_needed=True, generator=np.random.default_rng(s))(small).tobytes() for s in range(40)} == {
        np.pad(small, ((2, 2), (1, 1)))[t : t + 4, x : x + 4].tobytes() for t in range(3) for x in range(2)
    }
