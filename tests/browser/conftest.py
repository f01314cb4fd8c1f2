"""A real browser on a real monitor: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import time

import pytest
from chromium import chromium
from pipeline import Pipeline
from playwright.sync_api import expect
from waiting import DEADLINE_S

from streamrec.local import local_stack
from streamrec.metrics import find_endpoints
from streamrec.settings import Settings

DAY_MS = 86_400_000

expect.set_options(timeout=DEADLINE_S * 1_000)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Run everything that the page has something to say of."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("browser"), monitor_port=0, checkpoint_interval_s=1.0)
    with local_stack(settings, progress=False) as stack, Pipeline(stack) as pipeline:
        # a retention table of every shade: of four users each comes back once more often than the one before
        month_ago_ms = time.time_ns() // 1_000_000 - 31 * DAY_MS
        visits = [(user, day) for user in range(4) for day in (0, 1, 7, 30)[: user + 1]]
        pipeline.produce(
            "clicks",
            [
                {"user_id": f"visitor{user}", "item_id": "i1", "event_time_ms": month_ago_ms + day * DAY_MS}
                for user, day in visits
            ],
        )
        pipeline.start("interests", "trainer", "recall", "retention", "monitor")
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


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["light-desktop", "dark-phone"])
def page(browser, request):
    """Return a page of its own, which fails the test when it complains."""
    scheme, width = request.param
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    context.set_default_timeout(DEADLINE_S * 1_000)
    opened = context.new_page()
    complaints = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert complaints == []
