"""Headless Chromium, the system's own; tests that open a page are skipped without it."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens pages; whatever they say or ask for is a failure at the end."""
    heard, pages = [], []

    def open_page(html, width=1400):
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        size = {"width": width, "height": 900}
        page = browser.new_page(viewport=size, reduced_motion="reduce")
        page.on("console", lambda m: heard.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: heard.append(f"error: {e}"))
        page.on("dialog", lambda d: heard.append(f"dialog: {d.message}"))
        page.on("request", lambda r: heard.append(r.url) if not of_page(r.url) else None)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.log('CSP ' + e.blockedURI))"
        )
        page.goto((tmp_path / "page.html").as_uri())
        pages.append(page)
        return page

    def of_page(url):
        return url.startswith("data:") or url == (tmp_path / "page.html").as_uri()

    yield open_page
    for page in pages:
        page.close()
    assert heard == []
