"""The page in a real Chromium: live, zoomed, by keyboard, compared, dark, on a phone, cut off; its console silent."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.ledger import Ledger, LossNotFinite, RunResumed
from tenfold.pages.style import DARK, LIGHT
from tests.campaign.small import finished_campaign
from tests.monitor.page.browser import Wire, chromium, needs_browser, opened
from tests.monitor.page.ledgers import rows, write_run
from tests.monitor.page.serving import served
from tests.once import made_once

pytestmark = needs_browser
STEPS = 2000
LOSS = '[data-name="Training loss"]'


def finished() -> Path:
    """Looked at by many tests, changed by none."""
    return made_once("watched-in-a-browser", lambda folder: write_run(folder, STEPS) and None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def url(browser: Any) -> Iterator[str]:
    with served([finished()]) as address:
        yield address


def words(page: Any, selector: str) -> str:
    return str(page.locator(selector).inner_text())


def until_said(page: Any, selector: str, text: str) -> None:
    page.wait_for_function("([at, text]) => document.querySelector(at)?.innerText.includes(text)", arg=[selector, text])


def requests_of(page: Any) -> list[str]:
    """Paths asked for from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(re.sub(r"^https?://[^/]+", "", request.url)))
    return found


def again(asked: list[str]) -> list[str]:
    """Requests for what the page had when it was drawn; charts further down may come into sight at any time."""
    return [path for path in asked if path.startswith(("/api/state", "/api/run")) or "train%2Floss" in path]


# What is there


def test_the_first_view_says_what_matters(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        until_said(page, "#summary", "inside its forecast")
        assert "2 open of 3" in words(page, "#incidents h2")
        assert "80%:" in words(page, "#summary") and "Goodput" in words(page, "#summary")
        assert page.locator(f"{LOSS} .mark").count() >= 4
        assert "loss 2." in words(page, f"{LOSS} .value") and "forecast" in words(page, f"{LOSS} .value")
        heads = page.locator("h2").all_inner_texts()
        order = ["Learners", "Time of a step", "Learning", "Numerics", "Data", "Process", "Network", "Hardware", "Log"]
        assert [head for head in heads if head in order] == order
        assert page.locator("#learners tr").count() == 5 and "backward" in words(page, "#time table")


def test_every_signal_is_drawn_when_it_is_looked_at_with_its_meaning(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        asked = requests_of(page)
        cards = page.locator("#signals .chart-card")
        for card in cards.all():
            card.scroll_into_view_if_needed()
            if card.locator(".plot").count():
                card.locator(".plot[data-drawn]").wait_for()
            assert len(card.locator(".meaning").inner_text()) > 10
        assert cards.count() >= 14
        before = len(asked)
        page.evaluate("scrollTo(0, 0)")
        cards.last.scroll_into_view_if_needed()
        assert len(asked) == before  # nothing is asked for twice


def test_what_the_run_wrote_is_text_and_never_markup(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path, 60, name="<img src=x onerror=alert(1)>")
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.event(RunResumed(5), "<script>alert(1)</script>", run_id=run)
    ledger.open_incident(LossNotFinite(7), "<b>bold</b>", run_id=run)
    with served([tmp_path]) as url, opened(browser, url) as page:
        assert "<script>alert(1)</script>" in words(page, "#log")
        assert "<b>bold</b>" in words(page, "#incidents") and "<img src=x" in words(page, "#run-select")
        assert page.locator("main img, main script").count() == 0


def test_a_campaign_that_tenfold_ran_itself(browser: Any, tmp_path: Path) -> None:
    folder = finished_campaign(tmp_path / "campaign")
    with served([folder]) as url, opened(browser, url) as page:
        until_said(page, "#summary", "done after")
        assert "40" in words(page, "#summary") and "loss " in words(page, f"{LOSS} .value")
        card = page.locator('[data-name="holdout/bits_per_byte"]')
        card.scroll_into_view_if_needed()
        card.locator(".plot[data-drawn]").wait_for()


# Live


def test_new_rows_incidents_and_a_rewind_appear_by_themselves(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path, 200, done=False)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with served([tmp_path]) as url, opened(browser, url) as page:
        until_said(page, "#link", "live")
        asked = requests_of(page)
        ledger.log(run, rows(201, 240, 200))
        until_said(page, "#summary", "240")
        until_said(page, f"{LOSS} .value", "step 240")
        ledger.open_incident(LossNotFinite(233), "step 233 is not finite", run_id=run)
        until_said(page, "#incidents", "step 233 is not finite")
        until_said(page, "#incidents h2", "3 open of 4")
        ledger.event(RunResumed(220), "resumed at step 220", run_id=run)
        until_said(page, "#note", "went back to step 220")
        ledger.log(run, {step: {"train/loss": 9.5} for step in range(221, 251)})
        until_said(page, f"{LOSS} .value", "loss 9.5")
        assert not again(asked)  # the feed told it all
        ledger.finish_run(run)
        until_said(page, "#summary", "done after")


def test_cut_off_it_says_so_and_goes_on_without_asking_again(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path, 100, done=False)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with served([tmp_path]) as url:
        wire = Wire(_port(url))
        with opened(browser, f"http://127.0.0.1:{wire.port}/", quiet=False) as page:
            until_said(page, "#link", "live")
            asked = requests_of(page)
            wire.cut()
            until_said(page, "#link", "cut off")
            ledger.log(run, rows(101, 130, 100))
            wire.mend()
            until_said(page, "#link", "live")
            until_said(page, f"{LOSS} .value", "step 130")
            assert not again(asked) and any(path.startswith("/feed") for path in asked)
        wire.close()


def test_a_server_that_began_anew_is_taken_up_again(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path, 100, done=False)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with served([tmp_path]) as first:
        wire = Wire(_port(first))
        context = opened(browser, f"http://127.0.0.1:{wire.port}/", quiet=False)
        page = context.__enter__()
        until_said(page, "#link", "live")
    until_said(page, "#link", "cut off")
    ledger.log(run, rows(101, 110, 100))
    with served([tmp_path]) as second:
        wire.lead_to(_port(second))
        until_said(page, f"{LOSS} .value", "step 110")
        until_said(page, "#link", "live")
        context.__exit__(None, None, None)
    wire.close()


def _port(url: str) -> int:
    return int(url.split(":")[2].strip("/"))


def test_a_folder_that_vanishes_is_said_and_shown_again_when_it_is_back(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    write_run(folder, 100, done=False)
    with served([folder]) as url, opened(browser, url) as page:
        until_said(page, "#link", "live")
        shutil.move(folder, tmp_path / "away")
        until_said(page, "#trouble", "is gone")
        shutil.move(tmp_path / "away", folder)
        page.wait_for_selector("#trouble", state="hidden")
        until_said(page, f"{LOSS} .value", "step 100")


def test_a_page_opened_before_the_run_begins(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text("")
    with served([tmp_path]) as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        until_said(page, "#trouble", "no ledger yet")
        write_run(tmp_path, 80, done=False)
        until_said(page, "#summary", "80")
        page.wait_for_selector("#trouble", state="hidden")


# Zoom


def shown_height(page: Any, name: str, step: int, low: int, high: int) -> float:
    """How high the line of a chart reaches at a step, as drawn: 0 at the bottom, 1 at the top."""
    return float(
        page.evaluate(
            """([name, step, low, high]) => {
              const plot = document.querySelector(`[data-name="${name}"] .u-wrap`);
              const over = plot.querySelector('.u-over').getBoundingClientRect();
              const canvas = plot.querySelector('canvas');
              const box = canvas.getBoundingClientRect();
              const scale = canvas.width / box.width;
              const x = Math.round((over.left - box.left + (step - low) / (high - low) * over.width) * scale);
              const [top, height] = [(over.top - box.top) * scale, over.height * scale];
              const copy = document.createElement('canvas');
              [copy.width, copy.height] = [canvas.width, canvas.height];
              const context = copy.getContext('2d', { willReadFrequently: true });
              context.drawImage(canvas, 0, 0);
              const data = context.getImageData(Math.max(x - 2, 0), top, 5, height).data;
              for (let y = 0; y < Math.floor(height); y++) for (let at = 0; at < 5; at++) {
                const [r, , b, a] = data.slice(4 * (5 * y + at), 4 * (5 * y + at) + 4);
                if (a > 60 && b - r > 60) return 1 - y / height;
              }
              return 0;
            }""",
            [name, step, low, high],
        )
    )


def test_a_spike_of_one_step_is_drawn_at_every_zoom(browser: Any, url: str) -> None:
    spike = int(0.55 * STEPS)
    with opened(browser, url) as page:
        for low, high in [(0, STEPS), (800, 1400), (1050, 1150), (spike - 8, spike + 8)]:
            page.evaluate(f"location.hash = '#run=0.1&steps={low}-{high}'")
            card = page.locator('[data-name="train/grad_norm"]')
            card.scroll_into_view_if_needed()
            page.wait_for_function(
                f"() => document.querySelector('#range').innerText.replaceAll(',', '') == 'steps {low}–{high}'"
            )
            page.wait_for_function(
                "([a, b]) => performance.getEntriesByType('resource').some((each) =>"
                " each.name.includes('grad_norm') && each.name.includes(`low=${a}&high=${b}`) && each.responseEnd)",
                arg=[low, high],
            )
            page.wait_for_timeout(300)
            assert shown_height(page, "train/grad_norm", spike, low, high) > 0.85


def test_dragging_zooms_every_chart_and_a_double_click_shows_all_again(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        box = page.locator(f"{LOSS} .u-over").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.25, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
        with page.expect_response(lambda answer: "loss" in answer.url and "low=" in answer.url):
            page.mouse.up()
        until_said(page, "#range", "steps")
        low, high = map(int, re.search(r"steps=(\d+)-(\d+)", page.url).groups())
        assert abs(low - 500) < 20 and abs(high - 1000) < 20
        asked = requests_of(page)
        page.locator(f"{LOSS} .u-over").dblclick()
        until_said(page, "#range", "all steps")
        page.wait_for_timeout(500)
        assert not [path for path in asked if "loss" in path]  # the whole is there already


def test_a_link_leads_to_the_view_again(browser: Any, url: str) -> None:
    with opened(browser, f"{url}#run=0.1&steps=400-800&log=1&incident=2") as page:
        until_said(page, "#range", "steps 400–800")
        assert page.locator("#log-scale").get_attribute("aria-pressed") == "true"
        page.wait_for_selector("dialog#incident[open]")
        assert "not-finite" in words(page, "#incident h2")
        assert re.search(r"run=0\.1.*steps=400-800.*log=1.*incident=2", page.url)


# Incidents


def test_a_mark_opens_its_incident_with_evidence_and_what_to_do(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        page.locator(f"{LOSS} .mark.incident").last.click()
        page.wait_for_function("() => document.querySelectorAll('#incident[open] .plot[data-drawn]').length == 2")
        said = words(page, "#incident")
        assert "the loss of step 1100 is not finite" in said and "lower the learning rate" in said
        assert "17600–17615" in said
        page.get_by_role("button", name="Show these steps in every chart").click()
        until_said(page, "#range", "steps 1,080–1,120")
        assert not page.locator("#incident").is_visible()


def test_several_runs_are_compared_and_what_differs_is_said(browser: Any, tmp_path: Path) -> None:
    write_run(tmp_path / "a", 200)
    run = write_run(tmp_path / "b", 300, name="other", shift=0.1)
    assert run == 1
    with served([tmp_path / "a", tmp_path / "b"]) as url, opened(browser, f"{url}#run=0.1") as page:
        page.get_by_text("Compare", exact=True).click()
        page.get_by_role("checkbox").check()
        until_said(page, f"{LOSS} .legend", "b · other")
        until_said(page, "#difference", "train.tokens")
        assert re.search(r"with=1\.1", page.url)
        page.get_by_role("checkbox").uncheck()
        page.wait_for_selector("#difference", state="hidden")
        page.locator("#run-select").select_option("1.1")
        until_said(page, f"{LOSS} .legend", "b · other")


# For everybody


def test_the_whole_page_by_keyboard(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        page.keyboard.press("+")
        until_said(page, "#range", "steps 500–1,500")
        page.keyboard.press("ArrowRight")
        until_said(page, "#range", "steps 750–1,750")
        page.keyboard.press("-")
        page.keyboard.press("0")
        until_said(page, "#range", "all steps")
        for key, button in (("l", "#log-scale"), ("t", "#tall")):
            page.keyboard.press(key)
            page.wait_for_selector(f"{button}[aria-pressed=true]")
        page.keyboard.press("i")
        page.wait_for_selector("#incident[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#incident", state="hidden")
        page.wait_for_function("() => document.activeElement.dataset.incident !== undefined")
        page.keyboard.press("?")
        page.wait_for_selector("#help[open]")
        page.keyboard.press("Escape")
    with opened(browser, url) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('incident')"):
                break
        page.keyboard.press("Enter")
        page.wait_for_selector("#incident[open]")


def test_everything_has_a_name_for_those_who_cannot_see_it(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input, select, [role=img], [role=region], dialog')]
                 .filter((each) => !(each.getAttribute('aria-label') || each.innerText.trim() || each.labels?.length
                   || document.getElementById(each.getAttribute('aria-labelledby'))))
                 .map((each) => each.outerHTML.slice(0, 120))"""
        )
        assert nameless == []
        assert re.match(r"Training loss: .* \d", page.locator(f"{LOSS} .plot").get_attribute("aria-label"))
        assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_enough_contrast(colours: dict[str, str]) -> None:
    for text in ("ink", "soft", "c0", "c1", "c2"):
        for ground in ("card", "page") if text in ("ink", "soft") else ("card",):
            large = text not in ("ink", "soft")  # coloured text is a large figure, or bold beside a word (WCAG 1.4.3)
            assert contrast(colours[text], colours[ground]) >= (3 if large else 4.5), (text, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = "".join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour[1:]
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_dark_follows_the_reader_and_the_charts_follow_too(browser: Any, url: str) -> None:
    with opened(browser, url, color_scheme="light") as page:
        ground = "getComputedStyle(document.querySelector('.card')).backgroundColor"
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        drawn = int(page.locator(f"{LOSS} .plot").get_attribute("data-drawn"))
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"() => Number(document.querySelector('{LOSS} .plot').dataset.drawn) > {drawn}")
        assert page.evaluate(ground) == "rgb(26, 33, 40)"


def test_on_a_phone_nothing_is_cut_off_and_fingers_hit_the_buttons(browser: Any, url: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with opened(browser, url, **phone) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
        top = page.locator(f"{LOSS} canvas").first.bounding_box()
        assert top["y"] < 400 and top["width"] > 280  # the loss is on the first screen
        for button in page.locator(".toolbar button").all():
            assert button.bounding_box()["height"] >= 38
        page.get_by_role("button", name="zoom in").tap()
        until_said(page, "#range", "steps 500–1,500")
        page.locator("#incidents .entry").first.tap()
        page.wait_for_selector("#incident[open]")
        assert page.locator("#incident").bounding_box()["width"] <= 360


def test_a_chart_is_saved_as_picture_and_as_table(browser: Any, url: str) -> None:
    with opened(browser, f"{url}#run=0.1&steps=100-119") as page:
        page.locator(LOSS).hover()
        with page.expect_download() as saving:
            page.get_by_role("button", name="Training loss as PNG").click()
        assert Path(saving.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        with page.expect_download() as saving:
            page.get_by_role("button", name="Training loss as CSV").click()
        lines = Path(saving.value.path()).read_text().splitlines()
        assert lines[0] == "name,step,value" and len(lines) == 21 and lines[1].startswith("train/loss,100,")


def test_the_frame_that_the_page_reads_is_what_the_ledger_has(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        read = page.evaluate(
            """async () => {
              const { curves } = await import('/static/api.js');
              const frame = await curves('0.1', ['train/loss', 'train/mfu'], { low: 0, high: 5000, columns: 8000 });
              return frame.curves.map(({ name, steps, values }) => ({ name, steps, values }));
            }"""
        )
    ledger = Ledger(finished() / "ledger.sqlite", read_only=True)
    for curve in read:
        steps, values = zip(*ledger.metric(1, curve["name"]), strict=True)
        assert curve["steps"] == list(steps)
        assert curve["values"] == pytest.approx(values, rel=1e-6)


def test_curves_of_the_page_merge_as_the_server_does(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        merged = page.evaluate(
            """async () => {
              const { Curve, extremes, stepsOf } = await import('/static/curves.js');
              const curve = new Curve();
              curve.take({ steps: [1, 2, 3, 4], values: [1, 2, 3, 4], broken: [], last: 4 });
              curve.merge([5, 6], [5, null]);
              curve.merge([3, 4, 5, 6, 7], [30, 40, 50, 60, 70]);
              const long = Array.from({ length: 9000 }, (_, step) => step);
              const [steps, values] = extremes(long, long.map((step) => (step === 4321 ? 7 : step % 2)), 50);
              return [curve.steps, curve.values, curve.broken, steps.length <= 102, Math.max(...values),
                stepsOf([3, 2]),
                stepsOf([3, 2, 5]), stepsOf([0, 0, 0, 1, 9])];
            }"""
        )
    assert merged == json.loads("[[1,2,3,4,5,6,7],[1,2,30,40,50,60,70],[],true,7,[3,4],[3,8],[1,9]]")
