"""`--slow` runs the slow tests and only those, `--container` those that build and run the image;
without them the slow ones are left out, and the container's skipped with the reason."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests (only those)")
    parser.addoption("--container", action="store_true", help="run the image's tests (only those)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    container, slow = config.getoption("--container"), config.getoption("--slow")

    def wanted(item: pytest.Item) -> bool:
        if container or slow:
            return bool(container) == ("container" in item.keywords) and (
                bool(slow) == ("slow" in item.keywords)
            )
        return "slow" not in item.keywords

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
    if not container:
        reason = "builds a 7 GB image with a Docker engine: run ./test.sh --container"
        for item in items:
            if "container" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine. Where none answers the test is skipped, or fails if one must be there."""
    from submission.server.runners import engine_answers

    if engine_answers():
        return
    required = os.environ.get("CI") or os.environ.get("REQUIRE_CONTAINER")
    if required and not os.environ.get("ALLOW_NO_CONTAINER"):
        pytest.fail("no Docker engine answers, and ALLOW_NO_CONTAINER is not set")
    pytest.skip("no Docker engine answers here")
