"""Photographs of the dashboard for the docs: a pipeline of its own, a simulated shop played into it, Debian's Chromium.

`python tests/photographs.py --minutes 12 --into docs`
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from chromium import chromium

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.redis import TopKReader
from streamrec.local import Supervisor, local_stack
from streamrec.local.supervisor import WORKERS
from streamrec.metrics import find_endpoints
from streamrec.playback.pace import at_rate, in_time
from streamrec.playback.turns import shop_turns
from streamrec.service.ports import Outgoing
from streamrec.settings import Settings
from streamrec.simulated_shop import SimulatedShop

SEED = 1
TOP_K = 20
"""A list of the default length would be longer than what this shop sells in a category."""

SICK_EVERY = 100
"""One record is refused for so many visits, well below the limit."""

REFUSED = (b'{"user_id": "u1", "event_time_ms": 1735689600000}', b"{broken", b'{"user_id": "u7", "item_id": ""}')
DEADLINE_S = 400.0
CALM_VISITS_PER_S = 3.0
CALM_S = 40.0
"""After the shop was played for long, workers catch up; then it is played calmly, which a busy machine can bear.

Photographs follow at once: rates and percentiles are over the last 15 polls."""


class Shop:
    """Plays visits; half of the users look at their lists."""

    def __init__(self, settings: Settings) -> None:
        self._reader = TopKReader(settings.require_redis_url())
        self._publisher = KafkaPublisher(settings.require_kafka())
        self._turns = shop_turns(SimulatedShop(SEED))
        self._visits = 0
        self.user_id = ""
        """Who came last."""

    def play(self, visits_per_s: float, closing: threading.Event) -> None:
        """Play at a steady rate until told to stop."""
        for chunk in in_time(self._turns, at_rate(visits_per_s), lambda _turn: 0):
            if closing.is_set():
                return
            lists = self._reader.read_many([turn.user_id for turn in chunk])
            for turn, shown in zip(chunk, lists, strict=True):
                self._publisher.publish(turn.play(shown).records())
                self._visits += 1
                if self._visits % SICK_EVERY == 0:
                    refused = REFUSED[self._visits // SICK_EVERY % len(REFUSED)]
                    self._publisher.publish([Outgoing("clicks", b"u1", refused)])
            self.user_id = chunk[-1].user_id

    @contextmanager
    def played(self, visits_per_s: float) -> Iterator[None]:
        """Play meanwhile."""
        closing = threading.Event()
        playing = threading.Thread(target=self.play, args=(visits_per_s, closing))
        playing.start()
        try:
            yield
        finally:
            closing.set()
            playing.join()


def wait(condition, what):
    """Wait until a condition holds, and return its value."""
    end_s = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end_s, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.2)
    return found


def photograph(browser, url, file, *, width, scheme="light", until="body"):
    """Photograph a page from its top to the end of an element."""
    # the page forbids styles that are not its own, and Playwright hides the caret by one
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto(url)
    box = page.locator(until).first.bounding_box()
    page.screenshot(
        path=file,
        full_page=True,
        clip={"x": 0, "y": 0, "width": width, "height": round(box["y"] + box["height"] + 12)},
    )
    context.close()


def take(browser, url, shop, supervisor, options):
    """Play the shop until the model has learned, and photograph the dashboard: healthy, then with a stopped worker."""

    def is_healthy():
        return requests.get(f"{url}/readyz", timeout=10).ok

    charts, into = "section:has(#throughput)", options.into
    wait(is_healthy, "all workers")
    with shop.played(options.visits):
        time.sleep(60 * options.minutes)
    wait(is_healthy, "a healthy pipeline")
    with shop.played(CALM_VISITS_PER_S):
        time.sleep(CALM_S)
    for name, view in {
        "light": {"width": 1280, "until": charts},
        "dark": {"width": 1280, "until": charts, "scheme": "dark"},
        "tables": {"width": 1280},
        "phone": {"width": 390, "until": charts},
    }.items():
        wait(is_healthy, "a healthy pipeline")
        photograph(browser, url, into / f"monitor-{name}.png", **view)
    photograph(browser, f"{url}/user?id={shop.user_id}", into / "monitor-user.png", width=1280)
    with shop.played(CALM_VISITS_PER_S):
        stopped = supervisor.pids()["recall"][0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            page = browser.new_page()
            page.goto(url)
            wait(lambda: page.get_by_text("s behind, more than").count(), "a cause on the dashboard")
            photograph(browser, url, into / "monitor-problem.png", width=1280, until=charts)
        finally:
            os.kill(stopped, signal.SIGCONT)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12.0, help="how long the shop is played before")
    parser.add_argument("--visits", type=float, default=10.0, help="visits per second, of about four events each")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="where photographs go")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="streamrec-photographs-") as directory:
        settings = Settings(data_dir=Path(directory), monitor_port=0, top_k=TOP_K)
        with (
            local_stack(settings, progress=False) as stack,
            Supervisor(stack, stack.settings.data_dir / "logs", (*WORKERS, "monitor")) as supervisor,
            chromium() as browser,
        ):
            monitors = wait(
                lambda: [point for point in find_endpoints(stack.settings) if point.worker == "monitor"], "the monitor"
            )
            url = f"http://127.0.0.1:{monitors[0].port}"
            take(browser, url, Shop(stack.settings), supervisor, options)
    sys.stdout.write(f"photographs are in {options.into}\n")


if __name__ == "__main__":
    main()
