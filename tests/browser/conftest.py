"""A real browser on a real monitor: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import pytest
from chromium import chromium
from pipeline import Pipeline

from streamrec.local import local_stack
from streamrec.metrics import find_endpoints
from streamrec.settings import Settings


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Run servers, the worker that takes events in, and the monitor."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("browser"), monitor_port=0)
    with local_stack(settings, progress=False) as stack, Pipeline(stack) as pipeline:
        pipeline.start("interests", "monitor")
        pipeline.wait(lambda: "interests" in {point.worker for point in find_endpoints(stack.settings)}, "interests")
        yield pipeline


@pytest.fixture(scope="module")
def address(pipeline):
    """Return where the page is."""
    found = pipeline.wait(
        lambda: [point for point in find_endpoints(pipeline.settings) if point.worker == "monitor"], "the monitor"
    )
    return f"http://127.0.0.1:{found[0].port}"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(params=[("light", 1200), ("dark", 390)], ids=["light-desktop", "dark-phone"])
def page(browser, request):
    """Return a page of its own, which fails the test when it complains."""
    scheme, width = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    opened = context.new_page()
    complaints = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert complaints == []
