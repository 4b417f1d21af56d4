"""The screenshots of the docs: real pages of a real server, with real answers.

Run from the project's folder: ``python -m tests.web.screenshots docs/serving``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.conftest import CHROMIUM, EXAMPLES, ROOT, WIDTHS, Running, upload

__all__ = ["main"]

COLOURS = 128
"""Of a picture: pages have few, and files stay small."""


def main() -> None:
    """Write every picture into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a saved model to upload, not a new one")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backprop-shots-") as place:
        model = arguments.model or _finetuned(Path(place, "mail-desk"))
        Path(place, "data").mkdir()
        with Running(Path(place, "data")) as server, sync_playwright() as playwright:
            upload(server.url, "mail-desk", model, "Which desk of the shop answers a message.")
            upload(server.url, "mail-desk", model, "Which desk of the shop answers a message.")
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for width in WIDTHS:
                for name, (path, act) in PICTURES.items():
                    _take(browser, server.url, path, act, width, folder / f"{name}-{width}.png")
            browser.close()


def _finetuned(folder: Path) -> Path:
    command = [sys.executable, "-m", "backprop", "finetune", "text-classification"]
    command += [str(EXAMPLES / "mail.csv"), "--output", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder


def _take(
    browser: Browser, url: str, path: str, act: Callable[[Page], None], width: str, file: Path
) -> None:
    size = WIDTHS[width]
    scheme = "dark" if "generation" in file.name or "live" in file.name else "light"
    context = browser.new_context(
        base_url=url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(path)
    page.wait_for_load_state("networkidle")
    act(page)
    page.mouse.move(0, 0)
    page.screenshot(path=file, full_page=file.name.startswith("try"))
    context.close()
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def _look(page: Page) -> None:
    """Take the page as it is."""


def _answer(page: Page) -> None:
    page.locator("[data-fill]").click()
    expect(page.locator("#announcer")).to_contain_text("example", timeout=60_000)
    page.locator("[data-send]").click()
    expect(page.locator("[data-stop]")).to_be_hidden(timeout=120_000)
    page.evaluate("document.activeElement.blur()")


def _talk(page: Page) -> None:
    _answer(page)
    page.get_by_label("Question").fill("How long did she live there?")
    page.locator("[data-send]").click()
    expect(page.locator(".answered")).to_have_count(2, timeout=60_000)
    page.evaluate("document.activeElement.blur()")


def _watch(page: Page) -> None:
    """Ask from the page itself while it draws, so that there is something to see."""
    page.evaluate(WORK)


WORK = """async () => {
  const send = (task, body) =>
    fetch(`/${task}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "", ...body }),
    });
  const end = performance.now() + 40000;
  const work = async (pause) => {
    for (let i = 0; performance.now() < end; i++) {
      const text = `Parcel number ${i} came ${i % 9} days late. `.repeat(1 + (i % 5));
      await send("text-classification", { text, labels: ["delivery", "payment"] });
      await send("emotion", { text });
      await send("text-vectorisation", { text: Array(1 + (i % 8)).fill(text) });
      await new Promise((done) => setTimeout(done, pause * (1 + Math.sin(i / 9))));
    }
  };
  await Promise.all([work(60), work(90), work(150)]);
}"""

PICTURES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "try-qa": ("/try/qa", _talk),
    "try-text-classification": ("/try/text-classification", _answer),
    "try-text-generation": ("/try/text-generation", _answer),
    "try-image-text-vectorisation": ("/try/image-text-vectorisation", _answer),
    "live": ("/live", _watch),
    "home": ("/", _look),
    "model": ("/catalogue/mail-desk", _look),
}
"""File to address, and what is done there first."""


if __name__ == "__main__":
    main()
