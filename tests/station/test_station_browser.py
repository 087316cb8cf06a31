"""The page in a real browser: every view, keys alone, a phone's width, a server that is lost and comes back."""

from pathlib import Path

import pytest
from pictures import decoded
from sqlalchemy import text
from stations import config_of, picture, post, served, wait_until

from ndpnet.station.queries import last_events
from ndpnet.station.security import new_token

CHROMIUM = "/usr/bin/chromium"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium on this machine (apt-get install chromium)"),
]
PAGES = {"1": "Live", "2": "History", "3": "Review", "4": "What if", "5": "Health"}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (make venv)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[(1280, 800), (400, 800)], ids=["screen", "phone"])
def page(browser, request):
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 500)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("requestfailed", lambda sent: opened.problems.append(f"{sent.url}: {sent.failure}"))
    yield opened
    context.close()


def wait_for(page, condition: str) -> None:
    """Ask until JavaScript says yes: waiting inside the page would need what its content security policy forbids."""
    from playwright.sync_api import Error

    def holds() -> bool:
        try:
            return bool(page.evaluate(condition))
        except Error as error:
            if "context was destroyed" in str(error) or "navigat" in str(error):  # another page came meanwhile
                return False
            raise

    wait_until(holds)


def test_every_view_by_keys_alone_without_an_error_or_a_sideways_scroll(station, page):
    running, url = station
    picture_id = post(url, picture(1)).json()["id"]
    running.journal.review(picture_id, "good", 80 * "A")
    with running.journal.write() as db:
        db.execute(text("UPDATE pictures SET line = :line WHERE id = :id"), {"line": 64 * "x", "id": picture_id})
    page.goto(f"{url}/pictures/{picture_id}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for key, title in PAGES.items():
        page.keyboard.press(key)
        wait_for(page, f"document.title.startsWith('{title}')")
        assert page.locator("nav a[aria-current]").inner_text().startswith(title)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), title
    # a picture that was still loading when the next page was asked for
    assert [each for each in page.problems if not each.endswith("net::ERR_ABORTED")] == []


def test_a_picture_is_shown_with_its_own_verdict_alone(station, page):
    running, url = station
    first, second = (post(url, picture(3, size=size)).json()["id"] for size in (64, 32))
    page.goto(f"{url}/pictures/{first}")
    wait_for(page, "document.querySelector('.stage img').naturalWidth === 64")
    held = []
    page.route(f"**/pictures/{second}/image*", lambda route: held.append(route))  # noqa: PLW0108 - it marks its handler
    page.evaluate(f"void viewers[0].showId({second})")
    wait_for(page, f"viewers[0].picture.id === {second}")
    assert not page.locator(".stage img").is_visible()  # no verdict stands beside the picture before it
    wait_until(lambda: page.wait_for_timeout(10) or held)
    held[0].continue_()
    wait_for(page, "document.querySelector('.stage img').naturalWidth === 32")
    assert page.locator(".stage img").is_visible()
    with running.journal.write() as db:  # as another station at this address, whose journal counts from 1, too
        other = "file = (SELECT file FROM pictures AS other WHERE other.id = :other), received_at = received_at + 1"
        db.execute(text(f"UPDATE pictures SET {other} WHERE id = :id"), {"id": first, "other": second})
    page.goto(f"{url}/pictures/{first}")
    wait_for(page, "document.querySelector('.stage img').naturalWidth === 32")


def test_live_shows_the_last_picture_with_its_map_over_it(station, page):
    _, url = station
    post(url, b"no picture")
    told = post(url, picture(2)).json()
    page.goto(url)
    wait_for(page, f"document.querySelector('[data-last]').dataset.last >= {told['id']}")
    assert page.locator("#facts .word").inner_text() in ("good", "defective", "error")
    wait_for(page, "document.querySelector('.stage canvas').width === 64")
    picture_box, map_box = (page.locator(f".stage {name}").bounding_box() for name in ("img", "canvas"))
    assert abs(map_box["width"] - min(picture_box["width"], picture_box["height"])) < 2
    right = "getBoundingClientRect().right"
    badges = "[...document.querySelectorAll('.tiles .badge')]"
    assert page.evaluate(f"{badges}.every((badge) => badge.{right} < badge.closest('div').{right})")


def test_a_person_reviews_with_keys_and_goes_back(station, page):
    running, url = station
    told = post(url, picture(3)).json()
    page.goto(f"{url}/review")
    page.locator("#nameless").wait_for()
    page.fill("#who", "Ann")
    page.keyboard.press("Enter")
    page.locator("#reviewing").wait_for()
    for name in (".verdict .word", '[data-label="good"]', '[data-label="defective"]', '[data-label="cannot tell"]'):
        box = page.locator(name).bounding_box()  # nobody scrolls for these, on a telephone neither
        assert 0 <= box["y"] <= box["y"] + box["height"] <= page.viewport_size["height"], name
    page.locator("h2", has_text="Is it good?").click()
    before = running.journal.value(text("SELECT count(*) FROM reviews"))
    for _ in range(5):  # held: it is said of this picture alone
        page.keyboard.down("g")
    page.keyboard.up("g")
    page.locator("#said").wait_for()
    wait_for(page, "!document.querySelector('#said').hidden")
    last = running.journal.rows(text("SELECT * FROM reviews ORDER BY id DESC LIMIT 1"))[0]
    assert (last["label"], last["who"]) == ("good", "Ann")
    assert running.journal.value(text("SELECT count(*) FROM reviews")) == before + 1
    page.keyboard.press("u")
    wait_for(page, "document.querySelector('#opinions')?.textContent.includes('good, Ann')")
    page.keyboard.press("d")
    wait_for(page, "document.querySelector('#said')?.textContent.includes('defective')")
    assert running.journal.opinions(last["picture"])[-1]["label"] == "defective"
    assert told["id"]


def test_a_person_paints_the_defect_over_the_picture_or_takes_what_is_marked(station, page):
    running, url = station
    told = post(url, picture(5)).json()
    page.goto(f"{url}/pictures/{told['id']}")
    page.fill("#who", "Ann")
    page.keyboard.press("Enter")
    page.locator("h2", has_text="Regions").click()
    wait_for(page, "document.querySelector('.brush').width === 64")
    page.keyboard.press("p")
    page.locator(".width").fill("30")
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".brush").bounding_box()
    left, top = box["x"] + box["width"] / 4, box["y"] + 3 * box["height"] / 4
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + box["width"] / 2, top, steps=5)
    page.mouse.up()
    page.locator("h2", has_text="Regions").click()
    page.keyboard.press("d")
    wait_for(page, "document.querySelector('.opinions')?.textContent.includes('area painted')")
    mask = decoded(running.journal.mask(told["id"])) > 0
    assert mask.shape == (64, 64)
    assert mask[48, 16:48].all()
    assert not mask[:40].any()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # it is there again; cleared, the area that the map marks is taken by a key
    wait_for(page, "document.querySelector('.brush').width === 64 && viewers[0].brush.png() !== null")
    page.keyboard.press("p")
    page.get_by_role("button", name="clear").click()
    assert page.evaluate("viewers[0].brush.png()") is None
    heat = decoded(running.store.read(running.journal.picture(told["id"])["map"]))
    page.keyboard.press("t")
    wait_for(page, f"(viewers[0].brush.png() !== null) === {str(bool((heat >= 128).any())).lower()}")
    assert page.problems == []


def test_another_threshold_by_the_slider_and_a_reason(station, page):
    running, url = station

    def changes():
        return last_events(running.journal, 99, line="wall", kind="threshold")

    num_before = len(changes())
    post(url, picture(4))
    page.goto(f"{url}/whatif")
    page.fill("#who", "Eve")
    page.locator("#threshold").focus()
    wait_for(page, "document.querySelector('[data-promised]')?.textContent")
    late = {}
    page.route("**/whatif?threshold=*", lambda route: late.update(first=route), times=1)
    with page.expect_request("**/whatif?threshold=*"):
        page.keyboard.press("End")
    page.keyboard.press("Home")
    wait_for(page, "document.querySelector('[data-promised]')?.textContent === '100.0 %'")
    with page.expect_response("**/whatif?threshold=*"):  # that of a place that the slider has left
        late["first"].continue_()
    page.wait_for_timeout(300)
    assert page.text_content("[data-promised]") == "100.0 %"
    page.fill("#use [name=reason]", "to see what happens")
    page.locator("#use button").first.click()
    page.get_by_text("to see what happens").nth(num_before // 2).wait_for()
    assert changes()[0]["facts"]["value"] is not None
    assert changes()[0]["who"] == "Eve"
    page.get_by_role("button", name="Back to the model's own").wait_for()
    page.fill("#use [name=reason]", "seen")
    page.get_by_role("button", name="Back to the model's own").click()
    wait_until(lambda: len(changes()) == num_before + 2)  # the page shows those of the other width, too
    page.get_by_text("the model's own: seen").nth(num_before // 2).wait_for()
    assert [each["facts"]["reason"] for each in changes()[:2]] == ["seen", "to see what happens"]
    assert changes()[0]["facts"]["value"] is None


def test_a_lost_station_is_said_and_its_return_is_seen(pipeline, browser, tmp_path):
    config = config_of(tmp_path, pipeline.model_dir)
    opened = browser.new_context().new_page()
    opened.set_default_timeout(60_000)
    with served(config) as (_, url):
        opened.goto(url)
        opened.locator("#facts").wait_for()
        assert opened.locator("#lost").is_hidden()
        opened.route("**/*", lambda route: route.abort())  # a pulled cable
        opened.locator("#lost").wait_for()
        opened.unroute("**/*")
        wait_for(opened, "document.querySelector('#lost').hidden")
    opened.locator("#lost").wait_for()
    opened.context.close()


def test_a_refusal_is_said_and_shown_as_no_empty_queue_and_a_lost_token_asks_for_another(pipeline, browser, tmp_path):
    opened = browser.new_context().new_page()
    with served(config_of(tmp_path, pipeline.model_dir)) as (running, url):
        opened.goto(f"{url}/review")
        away = {"status": 503, "json": {"error": "the journal is away"}}
        opened.route("**/api/review/next*", lambda route: route.fulfill(**away))
        opened.fill("#who", "Ann")
        opened.keyboard.press("Enter")
        opened.get_by_text("the journal is away").wait_for()
        assert opened.locator("#nothing").is_hidden()
        assert opened.locator("#lost").is_visible()
        opened.goto(url)
        new_token(running.journal, "gate", "camera")  # from now on nobody gets in without one
        opened.wait_for_url(f"{url}/login")
    opened.context.close()
