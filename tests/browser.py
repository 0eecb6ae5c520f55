"""A headless Chromium, where there is one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip


@dataclass
class Seen:
    """What a page did: its requests, errors on the console or uncaught, and dialogs."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's; the test skips where there is no playwright, or no Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def opened(browser: Any, path: Path) -> Seen:
    """A page of a report as it opens from disk, with all of its charts drawn."""
    seen = Seen(browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce"))
    page = seen.page
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    return seen


def settled(page: Any) -> None:
    """Waits until every chart has done what it was told, and what the size of the window asks of it."""
    frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    views = "[...document.querySelectorAll('[data-chart]')].map(chart => chart.view.runAsync())"
    page.evaluate(f"async () => {{ await {frames}; await Promise.all({views}); }}")


def until(page: Any, condition: str, value: Any = None) -> None:
    """Waits until this function of `value`, in JavaScript, is true; the page's policy forbids what playwright does instead."""
    turn = "if (!left) throw new Error('not in half a minute'); await new Promise(done => setTimeout(done, 10));"
    page.evaluate(f"async value => {{ for (let left = 3000; !({condition})(value); left--) {{ {turn} }} }}", value)
