"""`--slow` runs the slow tests and only those; without it they are left out."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests (only those)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--slow")
    left_out = [item for item in items if ("slow" in item.keywords) != wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if ("slow" in item.keywords) == wanted]
