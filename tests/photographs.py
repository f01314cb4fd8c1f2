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
from pathlib import Path
from tempfile import TemporaryDirectory

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
SICK_EVERY = 100
"""One record is refused for so many visits, well below the limit."""

REFUSED = (b'{"user_id": "u1", "event_time_ms": 1735689600000}', b"{broken", b'{"user_id": "u7", "item_id": ""}')
DEADLINE_S = 120.0


class Shop(threading.Thread):
    """Plays visits at a steady rate; half of the users look at their lists."""

    def __init__(self, settings: Settings, visits_per_s: float) -> None:
        super().__init__(daemon=True)
        self._reader = TopKReader(settings.require_redis_url())
        self._publisher = KafkaPublisher(settings.require_kafka())
        self._visits_per_s = visits_per_s
        self.closing = threading.Event()
        self.user_id = ""
        """Who came last."""

    def run(self) -> None:
        number = 0
        for chunk in in_time(shop_turns(SimulatedShop(SEED)), at_rate(self._visits_per_s), lambda _turn: 0):
            if self.closing.is_set():
                return
            lists = self._reader.read_many([turn.user_id for turn in chunk])
            for turn, shown in zip(chunk, lists, strict=True):
                self._publisher.publish(turn.play(shown).records())
                number += 1
                if number % SICK_EVERY == 0:
                    refused = REFUSED[number // SICK_EVERY % len(REFUSED)]
                    self._publisher.publish([Outgoing("clicks", b"u1", refused)])
            self.user_id = chunk[-1].user_id


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12.0, help="how long the shop is played before")
    parser.add_argument("--visits", type=float, default=12.0, help="visits per second, of about four events each")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="where photographs go")
    options = parser.parse_args()
    into = options.into
    with TemporaryDirectory(prefix="streamrec-photographs-") as directory:
        settings = Settings(data_dir=Path(directory), monitor_port=0)
        with (
            local_stack(settings, progress=False) as stack,
            Supervisor(stack, stack.settings.data_dir / "logs", (*WORKERS, "monitor")) as supervisor,
            chromium() as browser,
        ):
            monitors = wait(
                lambda: [point for point in find_endpoints(stack.settings) if point.worker == "monitor"], "the monitor"
            )
            url = f"http://127.0.0.1:{monitors[0].port}"
            shop = Shop(stack.settings, options.visits)
            shop.start()
            time.sleep(60 * options.minutes)
            charts = "main > .grid"
            photograph(browser, url, into / "monitor-light.png", width=1280, until=charts)
            photograph(browser, url, into / "monitor-dark.png", width=1280, scheme="dark", until=charts)
            photograph(browser, url, into / "monitor-tables.png", width=1280)
            photograph(browser, url, into / "monitor-phone.png", width=390, until="#hits")
            photograph(browser, f"{url}/user?id={shop.user_id}", into / "monitor-user.png", width=1280)
            stopped = supervisor.pids()["recall"][0]
            os.kill(stopped, signal.SIGSTOP)
            try:
                page = browser.new_page()
                page.goto(url)
                wait(lambda: page.get_by_text("s behind, more than").count(), "a cause on the dashboard")
                photograph(browser, url, into / "monitor-problem.png", width=1280, until=charts)
            finally:
                os.kill(stopped, signal.SIGCONT)
            shop.closing.set()
            shop.join()
    sys.stdout.write(f"photographs are in {into}\n")


if __name__ == "__main__":
    main()
