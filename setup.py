"""Find the sub-packages below the three folders that pyproject.toml maps; everything else stands there."""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).resolve().parent
settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
folders = settings["tool"]["setuptools"]["package-dir"]

setup(
    packages=[
        name
        for package, folder in folders.items()
        for name in [package, *(f"{package}.{below}" for below in find_packages(str(root / folder)))]
    ]
)
