"""The monitor's page as people use it: it is live, it complains of nothing, and everybody can read it."""

from __future__ import annotations

import json
import re
import time
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def click(user_id, item_id, **fields):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": int(time.time() * 1_000), **fields}


def test_a_click_changes_the_page_without_a_reload(page, pipeline, address):
    pipeline.wait_until_folded()
    before = len(pipeline.ledger().applied)
    page.goto(address)
    page.evaluate("window.untouched = true")
    if before:
        expect(page.locator('[data-total="applied"]')).to_have_text(f"{before:,}")
    pipeline.produce("clicks", [click("u1", "i1")])

    expect(page.locator('[data-total="applied"]')).to_have_text(f"{before + 1:,}")
    assert page.evaluate("window.untouched")


def test_a_refused_record_appears_with_its_reason_and_cannot_write_into_the_page(page, pipeline, address):
    page.goto(address)
    mark = uuid4().hex
    pipeline.produce("clicks", [json.dumps({"user_id": "u1", "note": f"<img src=x onerror=alert(1)>{mark}"}).encode()])
    row = page.locator("#letters tr", has_text=mark)

    expect(row).to_contain_text("missing-field")
    expect(row).to_contain_text("<img src=x")
    assert page.locator("#letters img").count() == 0


def test_everybody_can_read_it(page, pipeline, address):
    pipeline.produce("clicks", [click("reader", f"i{n}", category="books") for n in range(5)])
    page.goto(address)

    def has_a_version():
        pipeline.produce("clicks", [click("reader", "i1")])  # the trainer tells of versions between two steps
        return page.locator("#model table").count()

    pipeline.wait(has_a_version, "a model version")
    for part in (
        "#retention .heat-7",
        "#hits .plot",
        "#lag .plot",
        "#freshness .plot",
        "#throughput .plot",
    ):
        expect(page.locator(part).first).to_be_visible()
    for path in ("/", "/user?id=reader", "/user?id=nobody"):
        page.goto(address + path)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_monitor_that_falls_silent_is_told_until_it_speaks_again(page, address):
    page.goto(address)
    said = page.locator("#said")
    page.evaluate("events.close()")
    expect(said).to_have_text("The monitor does not answer")
    expect(said).to_have_class("verdict bad")
    page.evaluate("events.dispatchEvent(new MessageEvent('sections', {data: '{}'}))")
    expect(said).to_have_class("hidden")
    expect(said).to_have_text(page.locator("#status .verdict").inner_text())


def test_cards_say_in_words_what_their_colours_say(page, pipeline, address):
    pipeline.produce("clicks", [click("u1", "i1")])
    page.goto(address)
    cards = page.locator("#status .card")

    expect(cards.nth(0).locator(".verdict")).to_have_text(re.compile("^(Healthy|Not healthy)$"))
    for place, words in enumerate(("Lag", "List freshness", "Model age", "Dead letters"), start=1):
        expect(cards.nth(place)).to_contain_text(words)
        expect(cards.nth(place).locator(".state")).to_have_text(re.compile("OK|Warning|Problem|No data"))
        expect(cards.nth(place)).to_contain_text("limit")
    expect(cards).to_have_count(5)
    assert page.title() == f"{page.locator('#status .verdict').inner_text()} · streamrec"


def test_each_line_is_labelled_in_the_panel_and_no_text_is_cut(page, pipeline, address):
    pipeline.produce("clicks", [click("u1", "i1")])
    page.goto(address)
    expect(page.locator("#lag .labels text")).to_have_count(5)  # four workers and the limit
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".chart")].flatMap((chart) => {
            const edge = chart.closest(".panel").getBoundingClientRect();
            const inside = (box) => box.left >= edge.left && box.right <= edge.right;
            const texts = [...chart.querySelectorAll("text")];
            return texts.filter((text) => !inside(text.getBoundingClientRect())).map((text) => text.textContent);
        })"""
    )

    assert cut == []


def test_keyboard_reaches_everything(page, address):
    page.goto(address)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 40)")
        )

    assert {"Skip to the content", "user-id", "Look up", "Every partition", "Dead letters"} <= reached
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#partitions table")).to_be_visible()


def test_a_user_is_told_in_words(page, pipeline, address):
    user_id = uuid4().hex
    pipeline.produce("clicks", [click(user_id, f"i{n}", category="books") for n in range(3)])
    pipeline.wait_until_folded()
    page.goto(address)
    page.get_by_label("User").fill(user_id)
    page.get_by_role("button", name="Look up").click()

    expect(page.get_by_text("3 events are known")).to_be_visible()
    expect(page.get_by_text("The latest session has 3 events, on books.")).to_be_visible()
    assert page.locator("main tbody tr").count() >= 3
    page.get_by_label("User").fill("nobody")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("Nothing is known of this user.")).to_be_visible()
