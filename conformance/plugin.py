"""The options and the tests of ``pytest --pyargs agnostic_ad.conformance --namespace NAME``: one test an operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from agnostic_ad.conformance.command import add_options, names
from agnostic_ad.conformance.deviations import DeviationsError
from agnostic_ad.conformance.report import Report, Row
from agnostic_ad.conformance.running import LEVELS, Task, UnknownNameError, Workers, chosen, limits, nearest

if TYPE_CHECKING:
    from pytest import Config, Metafunc, Parser

__all__ = ["conformance_report", "conformance_workers"]


def pytest_addoption(parser: Parser) -> None:
    """Add the options of the command line."""
    add_options(parser.getgroup("agnostic_ad.conformance", "conformance of an array library").addoption)


def pytest_generate_tests(metafunc: Metafunc) -> None:
    """Make a test of each operation."""
    if "conformance_op" in metafunc.fixturenames:
        metafunc.parametrize("conformance_op", _chosen(metafunc.config))


def _chosen(config: Config) -> list[str]:
    try:
        task = _task(config)
        task.excused()
        return chosen(names(config.getoption("--ops")), task.level)
    except (UnknownNameError, DeviationsError) as error:
        raise pytest.UsageError(str(error)) from None


def _task(config: Config) -> Task:
    namespace, level, seed, device, setup, known = map(
        config.getoption, ("--namespace", "--level", "--seed", "--device", "--setup", "--deviations")
    )
    return Task(namespace, nearest(level, LEVELS, "level"), seed, device, setup, known or "")


def pytest_report_header(config: Config) -> list[str]:
    """Say what is tested, and what is not."""
    head = f"conformance of {config.getoption('--namespace')}, level {config.getoption('--level')}, seed {config.getoption('--seed')}"
    return [head, *limits()]


@pytest.fixture(scope="session")
def conformance_workers(request: pytest.FixtureRequest, record_testsuite_property: Any) -> Iterator[Workers]:
    """Give a process to compute in, which may hang or die without taking pytest along."""
    task = _task(request.config)
    with Workers(task, task.excused(), 1, request.config.getoption("--time-limit")) as workers:
        facts = workers.facts()
        if isinstance(facts, Row):
            pytest.fail(facts.reason, pytrace=False)
        for name, version in facts["versions"].items():
            record_testsuite_property(name, version)
        yield workers


@pytest.fixture
def conformance_report(conformance_op: str, conformance_workers: Workers, request: pytest.FixtureRequest) -> Report:
    """Give the report of one operation."""
    task = conformance_workers.task
    report = Report(task.namespace, task.level, task.seed, task.device or "", task.setup, request.config.getoption("--allow-missing"))
    for _, rows in conformance_workers.check([conformance_op]):
        report.rows.extend(rows)
    return report
