"""Three folders are one package: what is on disk is what is installed."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import support

PUBLISHED = [*support.FOLDERS.values(), "_agnostic_ad_pytest.py", "pyproject.toml", "setup.py", "README.md", "LICENSE"]


def test_every_folder_with_modules_is_a_package() -> None:
    missing = [name for name in support.packages() if name not in support.modules()]
    assert missing == [], f"no __init__.py in {missing}"


def test_the_folders_do_not_hide_each_other() -> None:
    assert not (support.ROOT / "agnostic_ad" / "nn").exists()
    assert not (support.ROOT / "agnostic_ad" / "conformance").exists()


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_works(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    for name in PUBLISHED:
        source, target = support.ROOT / name, tmp_path / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    build = [sys.executable, "-P", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "--wheel-dir", tmp_path, tmp_path / "source"], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "site")

    expected = {"_agnostic_ad_pytest.py"}  # what pytest loads of us in every run
    for name, path in support.modules().items():
        expected.add(name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py"))
    assert {name for name in inside if name.endswith(".py")} == expected
    assert "agnostic_ad/py.typed" in inside
    assert "agnostic_ad/conformance/page.html" in inside
    assert {name.partition("/")[0] for name in inside} == {"agnostic_ad", "_agnostic_ad_pytest.py"}, (
        "a generic name would land in site-packages"
    )

    code = "import agnostic_ad.nn, agnostic_ad.conformance as c; print(agnostic_ad.__file__, agnostic_ad.nn.__file__, c.__file__)"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True
    )
    assert all(path.startswith(str(tmp_path / "site")) for path in ran.stdout.split()), ran.stdout


def test_what_is_installed_is_what_pyproject_says() -> None:
    import agnostic_ad

    project = support.PYPROJECT["project"]
    metadata = importlib.metadata.metadata("agnostic_ad")
    assert metadata["Version"] == project["version"] == agnostic_ad.__version__
    assert set(metadata.get_all("Provides-Extra") or []) == set(project["optional-dependencies"])


def test_the_extras() -> None:
    extras = support.PYPROJECT["project"]["optional-dependencies"]
    assert {"cupy12", "cupy13", "torch", "jax", "dask", "jit", "train", "docs", "test"} <= set(extras)
    required = {re.match(r"[\w.-]+", need)[0] for need in support.PYPROJECT["project"]["dependencies"]}  # type: ignore[index]
    explained = (support.ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    assert [name for name in required if f"| **{name}** " not in explained] == []
