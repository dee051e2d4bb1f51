"""What pytest loads of agnostic_ad in every run: next to nothing, until a run names agnostic_ad.conformance.

It stands outside the package, because an entry point inside would import all of agnostic_ad into everybody's tests.
"""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config, args):
    """Load the suite's plugin for ``pytest --pyargs agnostic_ad.conformance``, before unknown options are refused."""
    if any(arg.partition("::")[0].startswith("agnostic_ad.conformance") for arg in args):
        from agnostic_ad.conformance import plugin

        early_config.pluginmanager.register(plugin, "agnostic_ad.conformance")
