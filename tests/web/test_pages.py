"""The web page as people use it, in Chromium against a real server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from backprop.specs import SPECS
from tests.web.conftest import EXAMPLES, HOSTILE, WIDTHS, Guarded, Server, Watched

ACCESSIBLE = Path(__file__).with_name("accessible.js").read_text()
PATHS = (
    *("/", "/?q=nothing+fits+this", "/?task=qa", "/catalogue/minilm-qa", "/catalogue/mail-desk"),
    *("/live", "/login", "/catalogue/nobody", *(f"/try/{task}" for task in SPECS)),
)
PROMPT_TIMEOUT_MS = 120_000
"""A model is loaded at its first question, on a machine that may be busy."""


def answer(page: Page) -> Locator:
    return page.get_by_role("region", name="Answer")


def ask(page: Page) -> None:
    page.locator("[data-send]").click()
    expect(page.locator("[data-stop]")).to_be_hidden(timeout=PROMPT_TIMEOUT_MS)


# --- Every page --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PATHS)
def test_a_page_keeps_nobody_out(site: Watched, path: str, width: str, scheme: str) -> None:
    page = site.open(path, width, color_scheme=scheme)
    for summary in page.locator("details[data-options] > summary").all():
        summary.click()
    assert page.evaluate(ACCESSIBLE) == []


@pytest.mark.parametrize("path", ["/", "/try/qa", "/catalogue/mail-desk", "/live", "/login"])
def test_no_link_leads_nowhere(site: Watched, path: str) -> None:
    page = site.open(path)
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map((link) => link.href)")
    for link in set(links):
        assert httpx.get(link).status_code == 200, link


@pytest.mark.parametrize("path", ["/", "/try/qa", "/catalogue/mail-desk"])
def test_the_first_stop_of_the_keyboard_skips_to_the_content(site: Watched, path: str) -> None:
    page = site.open(path)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


@pytest.mark.parametrize("path", ["/", "/try/text-classification"])
def test_the_focus_is_always_seen(site: Watched, path: str) -> None:
    page = site.open(path)
    for _ in range(25):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => {
              let node = document.activeElement;
              if (node.matches(".visually-hidden")) node = node.closest(".drop");
              const ringed = [node, node.closest(".chips, .drop, .card")].filter(Boolean);
              return node === document.body || ringed.some((each) => {
                const after = getComputedStyle(each, "::after");
                const style = getComputedStyle(each);
                return style.outlineStyle !== "none" || after.outlineStyle !== "none";
              });
            }"""
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")


def test_colours_follow_the_system_until_they_are_chosen(site: Watched) -> None:
    page = site.open("/", color_scheme="dark")

    def is_dark() -> bool:
        return bool(
            page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")
        )

    assert is_dark()
    page.get_by_role("button", name="other colours").click()
    assert not is_dark()
    page.goto("/live")
    assert not is_dark()
    page.get_by_role("button", name="other colours").click()
    assert is_dark()


def test_an_error_is_a_friendly_page(site: Watched) -> None:
    page = site.open("/catalogue/nobody")
    expect(page.get_by_role("heading", name="Nothing on the map here")).to_be_visible()
    page.get_by_role("link", name="All models", exact=True).click()
    expect(page).to_have_url(re.compile("/$"))


# --- Catalogue ---------------------------------------------------------------------------


def cards(page: Page) -> list[str]:
    return page.locator(".model-card h3").all_text_contents()


def test_search_finds_as_one_types(site: Watched) -> None:
    page = site.open("/")
    assert "mail-desk" in cards(page) and "minilm-qa" in cards(page)
    page.get_by_label("Search models").press_sequentially("mail desk")
    expect(page.locator(".model-card")).to_have_count(1)
    assert cards(page) == ["mail-desk"]
    expect(page.get_by_label("Search models")).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?q=mail\+desk$"))
    expect(page.locator("#announcer")).to_contain_text("1 of")
    page.get_by_label("Search models").fill("")
    page.get_by_label("Task").select_option("qa")
    expect(page.locator(".model-card h3", has_text="mail-desk")).to_have_count(0)
    assert "minilm-qa" in cards(page)


def test_search_works_without_javascript(site: Watched) -> None:
    page = site.open("/", java_script_enabled=False)
    page.get_by_label("Search models").fill("mail")
    page.get_by_label("Size").select_option("uploaded")
    page.get_by_role("button", name="Search").click()
    assert cards(page) == ["mail-desk"]


def test_a_card_says_what_is_loaded_and_what_is_the_default(site: Watched) -> None:
    page = site.open("/try/emotion")
    page.locator("[data-fill]").click()
    ask(page)
    page.goto("/")
    card = page.locator(".model-card", has=page.get_by_role("link", name="minilm-emotion"))
    expect(card).to_contain_text("loaded")
    expect(card.get_by_role("link", name=re.compile("Emotion.*default"))).to_be_visible()


# --- A model -----------------------------------------------------------------------------


def test_a_finetuned_models_figures_are_drawn(site: Watched) -> None:
    page = site.open("/catalogue/mail-desk")
    expect(page.get_by_role("heading", name="How it was trained")).to_be_visible()
    assert page.locator("svg.chart[role=img]").count() >= 1
    expect(page.get_by_role("heading", name="Finetuning")).to_be_visible()


def test_code_is_copied(site: Watched) -> None:
    page = site.open("/catalogue/minilm-qa", permissions=["clipboard-read", "clipboard-write"])
    page.locator(".snippet", has_text="Python").get_by_role("button").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("from backprop import QA")


@pytest.mark.parametrize("task", ["qa", "image-classification"])
def test_the_curl_on_the_page_gets_an_answer(site: Watched, task: str) -> None:
    name = SPECS[task].default
    page = site.open(f"/catalogue/{name}?task={task}")
    code = page.locator(".snippet", has_text="curl").locator("code").text_content() or ""
    command = "\n".join(line for line in code.split("\n") if "x-api-key" not in line)
    done = subprocess.run(
        ["bash", "-c", command.replace("curl ", "curl -sS ")],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert SPECS[task].output in json.loads(done.stdout), done.stdout + done.stderr


def test_aliases_are_made_pointed_elsewhere_rolled_back_and_removed(site: Watched) -> None:
    page = site.open("/catalogue/mail-desk")
    page.get_by_label("New alias").fill("stable")
    page.get_by_role("button", name="Add").click()
    form = page.locator("[data-alias=stable]")
    expect(form.get_by_role("combobox")).to_have_value("2")
    form.get_by_role("button", name="Roll back to 1").click()
    expect(form.get_by_role("button", name=re.compile("Roll back"))).to_have_count(0)
    expect(form.get_by_role("combobox")).to_have_value("1")
    form.get_by_role("combobox").select_option("2")
    form.get_by_role("button", name="Point").click()
    expect(form.get_by_role("button", name="Roll back to 1")).to_be_visible()
    page.get_by_label("New alias").fill("no good!")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("[data-manage-error]")).to_contain_text("alias")
    form.get_by_role("button", name="Remove").click()
    expect(form).to_have_count(0)


def test_deleting_asks_first(site: Watched, finetuned: Path) -> None:
    from tests.web.conftest import upload

    upload(site.url, "doomed", finetuned, "One.")
    upload(site.url, "doomed", finetuned, "Two.")
    page = site.open("/catalogue/doomed")
    page.get_by_role("button", name="Delete version 1").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("link", name="version 1")).to_be_visible()
    page.get_by_role("button", name="Delete version 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="version 1")).to_have_count(0)
    page.get_by_role("button", name="Delete the model").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page).to_have_url(re.compile("/$"))
    assert "doomed" not in cards(page)


# --- Try it ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("task", SPECS)
def test_every_task_answers_its_example(site: Watched, task: str, width: str) -> None:
    page = site.open(f"/try/{task}", width)
    page.locator("[data-fill]").click()
    expect(page.locator("#announcer")).to_contain_text("example")
    ask(page)
    expect(page.locator("[data-error]")).to_be_hidden()
    if task == "qa":
        expect(page.locator(".answered strong")).to_have_text(re.compile("Ingrid Dahl"))
    else:
        expect(answer(page)).to_be_visible()
    expect(page.locator("[data-timing]")).to_contain_text("after" if "gen" in task else "answered")
    assert page.evaluate(ACCESSIBLE) == []


def test_a_form_is_filled_and_sent_by_keyboard_alone(site: Watched) -> None:
    page = site.open("/try/text-classification")
    text = page.get_by_label("Text", exact=True)
    for _ in range(30):
        page.keyboard.press("Tab")
        if text.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.type("They took the money from my card two times.")
    page.keyboard.press("Tab")
    for label in ("payment", "delivery", "weather"):
        page.keyboard.type(label)
        page.keyboard.press("Enter")
    page.keyboard.press("Backspace")
    chips = page.locator(".chips li")
    expect(chips).to_have_count(2)
    page.keyboard.press("Shift+Tab")  # the last chip's button
    expect(page.get_by_role("button", name="Remove delivery")).to_be_focused()
    page.keyboard.press("Enter")
    expect(chips).to_have_count(1)
    page.keyboard.type("delivery")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(answer(page)).to_be_visible(timeout=PROMPT_TIMEOUT_MS)
    assert page.locator(".label-name").all_text_contents()[0] == "payment"


def test_a_text_grows_while_it_is_written(site: Watched) -> None:
    page = site.open("/try/text-generation")
    page.locator("[data-fill]").click()
    page.evaluate(
        """() => {
          window.lengths = [];
          const result = document.querySelector("[data-result]");
          const look = () => window.lengths.push(result.textContent.length);
          new MutationObserver(look).observe(result, { childList: true, subtree: true });
        }"""
    )
    ask(page)
    lengths = page.evaluate("window.lengths")
    assert len(set(lengths)) >= 10
    assert lengths == sorted(lengths)


def test_writing_can_be_stopped(site: Watched) -> None:
    page = site.open("/try/text-generation")
    page.get_by_label("Text", exact=True).fill("Count from one to five hundred in words.")
    page.locator("summary", has_text="Options").click()
    page.get_by_label("Most tokens").fill("2000")
    page.locator("[data-send]").click()
    expect(page.locator(".answer-text")).to_be_visible(timeout=PROMPT_TIMEOUT_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("[data-timing]")).to_contain_text("stopped")
    expect(page.locator("[data-send]")).to_be_enabled()


def test_options_that_cannot_be_streamed_are_answered_whole(site: Watched) -> None:
    page = site.open("/try/text-generation")
    page.get_by_label("Text", exact=True).fill("The sea in winter")
    page.locator("summary", has_text="Options").click()
    for label, value in {"Most tokens": "8", "Answers": "2", "Seed": "1"}.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Sample", exact=True).select_option("true")
    ask(page)
    expect(page.locator(".answer-text")).to_have_count(2)


def test_a_conversation_knows_what_was_asked_before(site: Watched) -> None:
    page = site.open("/try/qa")
    page.locator("[data-fill]").click()
    ask(page)
    question = page.get_by_label("Question")
    expect(question).to_be_focused()
    question.fill("How long did she live there?")
    with page.expect_request("**/qa") as sent:
        question.press("Enter")
    body = sent.value.post_data_json or {}
    assert body["prev_q"] == ["Who kept the lighthouse?"]
    assert "Ingrid Dahl" in body["prev_a"][0]
    expect(page.locator(".answered")).to_have_count(2)
    expect(page.locator(".answered").last).to_contain_text("thirty-one")
    page.get_by_role("button", name="Start over").click()
    expect(page.locator(".turns li")).to_have_count(0)


def test_alike_texts_are_alike_in_the_heat_map(site: Watched) -> None:
    page = site.open("/try/text-vectorisation")
    page.locator("[data-fill]").click()
    page.get_by_role("button", name="Add another").click()
    expect(page.get_by_label("Text 5")).to_be_focused()
    page.get_by_label("Text 5").fill("A dog barks.")
    page.get_by_role("button", name="Remove number 5").click()
    ask(page)
    rows = page.locator("table.heat tbody tr").all()
    cells = [[float(cell) for cell in row.locator("td").all_text_contents()] for row in rows]
    assert [cells[i][i] for i in range(4)] == [1.0] * 4
    assert cells[0][1] > 0.5 > cells[0][2] and cells[0][1] == cells[1][0]


DROP = """([zone, bytes, name, type]) => {
  const data = new DataTransfer();
  const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  data.items.add(new File([content], name, { type }));
  const options = { bubbles: true, cancelable: true, dataTransfer: data };
  for (const kind of ["dragenter", "dragover", "drop"]) {
    zone.dispatchEvent(new DragEvent(kind, options));
  }
}"""


def drop(page: Page, name: str, content: bytes, kind: str) -> None:
    import base64

    zone = page.locator("[data-drop]").element_handle()
    page.evaluate(DROP, [zone, base64.b64encode(content).decode(), name, kind])


def test_a_picture_is_dropped_shown_and_classified(site: Watched) -> None:
    page = site.open("/try/image-classification")
    drop(page, "coffee.jpg", (EXAMPLES / "coffee.jpg").read_bytes(), "image/jpeg")
    expect(page.get_by_role("img", name="Preview of coffee.jpg")).to_be_visible()
    for label in ("cat", "dog", "cup of coffee"):
        page.get_by_role("textbox", name="Labels").fill(label)
        page.get_by_role("textbox", name="Labels").press("Enter")
    ask(page)
    assert page.locator(".label-name").all_text_contents()[0] == "cup of coffee"


def test_a_picture_is_chosen_by_the_file_picker(site: Watched) -> None:
    page = site.open("/try/image-classification")
    page.locator("input[type=file]").set_input_files(EXAMPLES / "cat.jpg")
    expect(page.get_by_role("img", name="Preview of cat.jpg")).to_be_visible()
    ask(page)
    expect(answer(page)).to_contain_text("cat")


def test_a_file_that_is_no_picture_is_refused_in_place(site: Watched) -> None:
    page = site.open("/try/image-classification")
    drop(page, HOSTILE, b"no picture", "image/png")
    expect(page.locator("[data-drop-hint]")).to_contain_text("no picture this browser can read")
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("no picture yet")


def test_what_the_server_refuses_is_said_in_place(site: Watched) -> None:
    page = site.open("/try/emotion")
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("text is blank")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    expect(page.get_by_label("Text", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Text", exact=True).fill("I love it")
    page.locator("summary", has_text="Options").click()
    page.get_by_label("Top k").fill("0")
    ask(page)
    expect(page.get_by_role("alert")).to_contain_text("Top k")
    page.get_by_label("Top k").fill("3")
    ask(page)
    expect(page.locator("[data-error]")).to_be_hidden()
    expect(page.locator(".label-name")).to_have_count(3)


def test_a_model_is_chosen_by_the_address_and_by_the_form(site: Watched) -> None:
    page = site.open("/try/text-classification?model=mail-desk@1")
    expect(page.locator("[data-model]")).to_have_value("mail-desk@1")
    page.get_by_label("Text", exact=True).fill("They took the money from my card two times.")
    with page.expect_request("**/text-classification") as sent:
        ask(page)
    assert (sent.value.post_data_json or {})["model"] == "mail-desk@1"
    assert page.locator(".label-name").count() >= 2
    page.locator("[data-model]").select_option("mail-desk")
    expect(page).to_have_url(re.compile(r"\?model=mail-desk$"))


# --- Live --------------------------------------------------------------------------------


def test_live_figures_move_and_can_be_paused(site: Watched) -> None:
    page = site.open("/try/emotion")
    page.locator("[data-fill]").click()
    ask(page)
    page.goto("/live")
    expect(page.locator(".latencies .card").first).to_be_visible()
    expect(page.locator("[data-rows] tr", has_text="Emotion")).to_contain_text("ms")
    with page.expect_response("**/stats.json"):
        pass  # asked for again by itself
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(ACCESSIBLE) == []


# --- What strangers wrote ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/catalogue/hostile", "/try/text-classification?model=hostile", "/live"),
        *(f"{place}{HOSTILE.replace('&', '%26').replace('#', '%23')}" for place in ("/?q=",)),
        "/try/qa?model=%3Cscript%3Ewindow.hacked=1%3C/script%3E",
        "/catalogue/%3Cimg%20src=x%20onerror=window.hacked=1%3E",
        "/login?next=javascript:window.hacked=1",
    ],
)
def test_markup_of_strangers_stays_text(site: Watched, path: str) -> None:
    page = site.open(path)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
    assert page.locator('a[href^="javascript:"]').count() == 0


def test_markup_in_answers_labels_and_chips_stays_text(site: Watched) -> None:
    page = site.open("/try/text-classification?model=hostile")
    page.get_by_label("Text", exact=True).fill(HOSTILE)
    ask(page)
    expect(answer(page)).to_contain_text("<script>window.hacked=1</script>")
    page.locator("[data-model]").select_option("all-minilm-l6-v2")
    for label in (HOSTILE, "other"):
        page.get_by_role("textbox", name="Labels").fill(label)
        page.get_by_role("textbox", name="Labels").press("Enter")
    ask(page)
    assert HOSTILE in page.locator(".label-name").all_text_contents()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img").count() == 0


# --- Keys --------------------------------------------------------------------------------


def log_in(page: Page, key: str) -> None:
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()


def test_a_visitor_logs_in_and_is_led_where_they_wanted_to_go(
    locked: Watched, guarded: Guarded
) -> None:
    page = locked.open("/try/emotion?model=minilm-emotion")
    expect(page).to_have_url(re.compile("/login"))
    assert page.evaluate(ACCESSIBLE) == []
    log_in(page, "bp_000000_wrong")
    expect(page.get_by_role("alert")).to_contain_text("not a key of this server")
    expect(page.get_by_label("Key")).to_have_value("")
    log_in(page, guarded.keys["infer"])
    expect(page).to_have_url(re.compile(r"/try/emotion\?model=minilm-emotion$"))
    page.locator("[data-fill]").click()
    ask(page)
    expect(answer(page)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login"))
    page.goto("/live")
    expect(page).to_have_url(re.compile("/login"))


def test_a_session_that_ended_leads_to_the_log_in(locked: Watched, guarded: Guarded) -> None:
    page = locked.open("/login?next=/try/emotion")
    log_in(page, guarded.keys["infer"])
    page.locator("[data-fill]").click()
    page.context.clear_cookies()
    page.locator("[data-send]").click()
    expect(page).to_have_url(re.compile("/login"))


@pytest.mark.parametrize(
    ("scope", "writes", "deletes"), [("infer", 0, 0), ("write", 1, 0), ("admin", 1, 1)]
)
def test_buttons_are_those_the_key_may_use(
    locked: Watched, guarded: Guarded, scope: str, writes: int, deletes: int
) -> None:
    page = locked.open("/login?next=/catalogue/mail-desk")
    log_in(page, guarded.keys[scope])
    expect(page.get_by_role("heading", name="Versions")).to_be_visible()
    expect(page.get_by_role("button", name="Add")).to_have_count(writes)
    expect(page.get_by_role("button", name="Delete the model")).to_have_count(deletes)


def test_no_key_is_kept_where_scripts_can_read_it(locked: Watched, guarded: Guarded) -> None:
    page = locked.open("/login")
    log_in(page, guarded.keys["infer"])
    expect(page).to_have_url(re.compile("/$"))
    kept = page.evaluate(
        "document.cookie + JSON.stringify(localStorage) + JSON.stringify(history.state)"
    )
    secret = guarded.keys["infer"].rpartition("_")[2]
    assert secret not in kept + page.content() + page.url
    assert "backprop_session" not in kept


def test_the_log_holds_no_key(guarded: Guarded, server: Server) -> None:
    logged = (guarded.data / "server.log").read_text()
    assert not any(key.rpartition("_")[2] in logged for key in guarded.keys.values())
