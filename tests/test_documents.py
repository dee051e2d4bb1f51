"""The documents: every example runs, every link leads somewhere."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import support

BUILT = {"_build", "generated"}
PAGES = [
    *(path for path in sorted(support.ROOT.glob("*.md"))),
    *(path for path in sorted((support.ROOT / "docs").rglob("*.md")) if not BUILT & set(path.parts)),
]
NAMES = [str(path.relative_to(support.ROOT)) for path in PAGES]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(text: str, filename: str) -> int:
    """Run a page's blocks in order and in one namespace; the number that ran."""
    names: dict[str, Any] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    report: list[str] = []
    ran = 0
    for example in support.examples(text):
        if any(importlib.util.find_spec(name) is None for name in example.needs):
            continue
        if example.prompts:
            test = doctest.DocTestParser().get_doctest(example.source, names, filename, filename, example.line - 1)
            runner.run(test, out=report.append, clear_globs=False)
            names.update(test.globs)
            if runner.failures:
                pytest.fail("".join(report), pytrace=False)
        else:
            padded = "\n" * (example.line - 1) + example.source  # a traceback then names the page's own line
            exec(compile(padded, filename, "exec"), names)
        ran += 1
    return ran


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_examples(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run(page.read_text(encoding="utf-8"), str(page))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_an_example_that_is_wrong_fails() -> None:
    assert run("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n2\n```\n", "page.md") == 2
    with pytest.raises(pytest.fail.Exception, match="Expected"):
        run("```python\n>>> 1 + 1\n3\n```\n", "page.md")
    with pytest.raises(ZeroDivisionError):
        run("```python\n1 / 0\n```\n", "page.md")
    assert run("<!-- needs: no_such_library -->\n```python\n1 / 0\n```\n", "page.md") == 0
    assert run("<!-- not run: it takes an hour -->\n```python\n1 / 0\n```\n", "page.md") == 0


def test_the_readme_has_one_table_of_what_works() -> None:
    readme = (support.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("<!-- works:begin -->") == readme.count("<!-- works:end -->") == 1
    assert re.search(r"<!-- works:begin -->\n.*\|.*\n<!-- works:end -->", readme, re.S)
