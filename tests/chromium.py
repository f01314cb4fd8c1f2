"""Debian's Chromium, driven by Playwright; as a program it times a running monitor.

`python tests/chromium.py http://127.0.0.1:8474 --kafka localhost:9092`
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from contextlib import contextmanager
from statistics import median

from confluent_kafka import Producer
from playwright.sync_api import sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REPEATS = 5


@contextmanager
def chromium():
    """Run a browser that nobody sees."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "there is no Chromium here"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield running
        running.close()


def load_s(page, url):
    """Return how long the page takes until it has loaded."""
    begun_s = time.monotonic()
    page.goto(url)
    return time.monotonic() - begun_s


def live_s(page, producer):
    """Return how long a click takes until it is counted on the open page."""
    place = page.locator('[data-total="applied"]')
    before = place.inner_text()
    event = {"user_id": "timed", "item_id": "i1", "event_time_ms": time.time_ns() // 1_000_000}
    begun_s = time.monotonic()
    producer.produce("clicks", key="timed", value=json.dumps(event))
    producer.flush()
    page.wait_for_function("before => document.querySelector('[data-total=applied]').innerText !== before", arg=before)
    return time.monotonic() - begun_s


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--kafka", help="also time how soon a click is on the page; nothing else may be produced")
    options = parser.parse_args()
    with chromium() as browser:
        for scheme, width in (("light", 1280), ("dark", 390)):
            page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
            loads_s = [load_s(page, options.url) for _ in range(REPEATS)]
            sys.stdout.write(f"{scheme}: loads in {median(loads_s):.2f} s, at most {max(loads_s):.2f} s\n")
        if options.kafka:
            producer = Producer({"bootstrap.servers": options.kafka, "partitioner": "murmur2_random"})
            changes_s = [live_s(page, producer) for _ in range(REPEATS)]
            sys.stdout.write(f"a click is on the page in {median(changes_s):.2f} s, at most {max(changes_s):.2f} s\n")


if __name__ == "__main__":
    main()
