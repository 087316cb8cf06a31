"""A running station over HTTP: pictures in, verdicts out, and who may do what."""

import base64
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pictures import decoded
from sqlalchemy import text
from starlette.datastructures import Headers
from stations import SECONDS, accept, config_of, get, picture, post, put, send, served, wait_until

from ndpnet.inference.inspector import Inspector
from ndpnet.station import queries
from ndpnet.station.journal import Judgement
from ndpnet.station.security import ROLES, new_token, refusal


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_verdict_of_a_posted_picture_is_the_inspectors(station, pipeline, kind):
    content = picture(1, kind=kind)
    answer = post(station[1], content)
    assert answer.status_code == 200
    verdict = Inspector.load(pipeline.model_dir).inspect(content)
    told = answer.json()
    assert (told["score"], told["threshold"]) == (verdict.score, verdict.threshold)
    assert told["verdict"] == ("defective" if verdict.is_defective else "good")
    assert len(told["regions"]) == len(verdict.regions)
    assert (told["width"], told["height"], told["line"]) == (64, 64, "wall")
    assert not {"file", "map", "key"} & told.keys()


def test_a_form_with_a_file_is_taken_and_its_name_is_no_path(station):
    files = {"picture": ("../../etc/x<y>.png", picture(2), "image/png")}
    form = requests.Request("POST", f"{station[1]}/inspect", files=files).prepare()
    form.headers["Content-Type"] = form.headers["Content-Type"].replace("multipart/form", "Multipart/Form")
    answer = requests.Session().send(form, timeout=SECONDS).json()
    assert answer["verdict"] in ("good", "defective")
    assert answer["name"] == "x_y_.png"


def test_the_map_is_sent_if_it_is_asked_for(station):
    answer = post(station[1], picture(3), params={"map": "1"}).json()
    content = base64.b64decode(answer["map"])
    assert station[0].journal.picture(answer["id"])["num_bytes"] == len(picture(3)) + len(content)  # both are stored
    heat = decoded(content)
    assert (heat.max() >= 128) == (answer["verdict"] == "defective")


def test_the_same_request_again_gets_the_same_verdict_and_no_second_row(station):
    headers = {"Idempotency-Key": "part 4711".replace(" ", "-")}
    first, second = (post(station[1], picture(4), headers=headers).json() for _ in range(2))
    assert first == second
    others = post(station[1], picture(4)), post(station[1], picture(5), headers=headers)  # by its bytes, too
    assert first["id"] not in {other.json()["id"] for other in others}


@pytest.mark.parametrize("content", [b"no picture", picture()[:200], b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_cannot_be_read_is_an_error_and_the_next_picture_is_judged(station, content):
    answer = post(station[1], content)
    assert (answer.status_code, answer.json()["verdict"]) == (422, "error")
    assert "\n" not in answer.json()["error"]
    shown = get(f"{station[1]}/history").text  # the reason, where a browser would show a broken picture
    assert f'<span class="empty">{answer.json()["error"]}</span>' in shown
    assert f"/pictures/{answer.json()['id']}/image" not in shown
    assert post(station[1], picture(5)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/pictures/99999999999999999999",
        "/history?after=yesterday",
        "/history?before=0001-01-01",
        "/history?min_score=nan",
        "/pictures/1/image?side=0",
        "/api/lines/wall/whatif?threshold=inf",
    ],
)
def test_what_is_asked_wrongly_is_said_in_one_line(station, path):
    answer = get(f"{station[1]}{path}")
    assert (answer.status_code, "\n" in answer.json()["error"]) == (400, False)


@pytest.mark.parametrize(
    "change",
    [
        {"value": True},
        {"value": 1.7e308},
        {"value": 10**400},
        {"reason": "half \ud800"},
        {"who": ["Ann"]},
        {"who": ""},
        {"model": "0" * 64},
        {"reason": " "},
    ],
)
def test_what_is_sent_wrongly_changes_nothing(station, change):
    before = station[0].lines["wall"].threshold
    answer = send(f"{station[1]}/api/lines/wall/threshold", **{"value": 0.1, "who": "Ann", "reason": "to try"} | change)
    assert (answer.status_code, "\n" in answer.json()["error"]) == (400, False)
    assert station[0].lines["wall"].threshold == before


def test_bytes_and_pixels_have_limits(station):
    assert post(station[1], bytes(1_100_000)).status_code == 413
    chunks = (bytes(100_000) for _ in range(12))  # of a length that is not announced
    assert post(station[1], chunks).status_code == 413
    answer = post(station[1], picture(size=1100, level=20, kind="JPEG"))
    assert (answer.status_code, answer.json()["verdict"]) == (422, "error")
    assert "megapixels" in answer.json()["error"]
    shown = get(f"{station[1]}/pictures/{answer.json()['id']}/image?side=240")
    said = "more than 1 megapixels are not shown (server.max_megapixels)"
    assert (shown.status_code, shown.json()["error"]) == (410, said)
    assert post(station[1], b"").status_code == 400
    assert requests.post(f"{station[1]}/login", data=bytes(200_000), timeout=SECONDS).status_code == 413
    assert requests.post(f"{station[1]}/login", data="[" * 90_000, timeout=SECONDS).status_code == 400


def test_an_upload_that_stalls_is_ended(station, monkeypatch):
    monkeypatch.setattr("ndpnet.station.web.BODY_SECONDS", 0.3)
    host, port = station[1].removeprefix("http://").split(":")
    with socket.create_connection((host.rstrip("/"), int(port)), timeout=SECONDS) as stalled:
        stalled.sendall(b"POST /inspect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc")
        assert stalled.recv(100).startswith(b"HTTP/1.1 408 ")


def test_every_page_and_file_of_it_is_served_and_names_no_other_host(station):
    running, url = station
    picture_id = post(url, picture(7)).json()["id"]
    paths = ("/", "/live", "/history", "/review", "/whatif", "/health", "/login", f"/pictures/{picture_id}")
    for path in (*paths, "/static/station.css", "/static/station.js", "/static/icon.svg"):
        answer = get(url + path)
        assert answer.status_code == 200, path
        assert "https://" not in answer.text
        assert answer.text.count("http://") == answer.text.count("http://www.w3.org/")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert str(running.config.folder) not in answer.text
    assert get(f"{url}/pictures/{picture_id}/image?side=32").headers["content-type"] == "image/jpeg"
    assert get(f"{url}/pictures/{picture_id}/map").headers["content-type"] == "image/png"
    assert get(f"{url}/pictures/999999").status_code == 404
    assert get(f"{url}/static/../web.py").status_code == 404


def test_names_of_pictures_are_text_on_the_page(station):
    running, url = station
    put(running.config.lines[0].source / "<img src=x onerror=alert(1)>.png", picture(8))
    wait_until(lambda: running.journal.value(text("SELECT 1 FROM pictures WHERE name LIKE '<img%' AND seq > 0")))
    shown = get(f"{url}/history").text
    assert "<img src=x" not in shown
    assert "&lt;img src=x" in shown


def test_from_a_picture_that_waits_the_way_back_leads_to_the_last_verdict(station):
    running, url = station
    first, second = (post(url, picture(number)).json()["id"] for number in (21, 22))
    waiting, _ = accept(running.journal, "waits")
    page = get(f"{url}/pictures/{waiting}").text
    assert f'rel="prev" href="/pictures/{second}"' in page
    assert 'rel="next"' not in page
    assert "None" not in page
    assert f'rel="next" href="/pictures/{second}"' in get(f"{url}/pictures/{first}").text


def test_a_threshold_is_in_the_history_and_in_force_from_the_next_picture_on(station):
    running, url = station
    own = running.lines["wall"].threshold
    path = f"{url}/api/lines/wall/threshold"
    assert send(path, value=1e-6, who="Ann", reason="a customer complained").status_code == 200
    told = post(url, picture(10)).json()
    assert (told["verdict"], told["threshold"], told["threshold_source"]) == ("defective", 1e-6, "manual")
    assert "a customer complained" in get(f"{url}/whatif").text
    follows = get(f"{url}/api/lines/wall/whatif?threshold=0.000001").json()
    num_called, num_pictures = follows["called_defective"]
    assert num_called == num_pictures > 0
    assert follows["to_people"] == follows["called_defective"]
    assert follows["promised_rate"] == 1.0
    assert send(path, value=None, who="Ann", reason="it was not the station").status_code == 200
    assert post(url, picture(11)).json()["threshold"] == own
    assert "it was not the station" in get(f"{url}/health").text  # told in words, though it is no number


def test_machines_are_told_how_it_is(station):
    running, url = station
    assert post(url, b"no picture").status_code == 422
    assert get(f"{url}/healthz").text == "ok\n"
    assert get(f"{url}/readyz", headers={"Host": "10.0.0.7:8600"}).text == "ok\n"  # a cluster asks by address
    told = get(f"{url}/metrics").text
    num_errors = running.journal.value(text("SELECT count(*) FROM pictures WHERE verdict = 'error'"))
    assert f'ndpnet_verdicts_total{{line="wall",verdict="error"}} {float(num_errors)}' in told
    assert "ndpnet_verdict_seconds_bucket" in told
    assert 'ndpnet_drift_statistic{line="wall"}' in told


@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}),
        *({"Host": "evil.example"}, {"Origin": "http://["}, {"Host": "["}),
    ],
)
def test_another_sites_page_cannot_write(station, headers):
    status = 400 if "[" in "".join(headers.values()) else 403
    assert post(station[1], picture(), headers=headers).status_code == status
    body = {"value": 0.5, "who": "x", "reason": "x"}
    path = f"{station[1]}/api/lines/wall/threshold"
    assert requests.post(path, json=body, headers=headers, timeout=SECONDS).status_code == status
    if "Host" in headers:  # nor read
        assert get(f"{station[1]}/history", headers=headers).status_code == status


def test_a_host_name_has_no_case(tmp_path):
    config = config_of(tmp_path, tmp_path, server={"port": 0, "host": "0.0.0.0", "host_names": ["Press.Plant"]})
    assert refusal(config.server, "GET", Headers({"host": "press.PLANT:8600"})) is None


def test_tokens_let_each_role_do_its_own_and_nobody_else_in(pipeline, tmp_path):
    with served(config_of(tmp_path, pipeline.model_dir)) as (running, url):
        tokens = {role: new_token(running.journal, role, role) for role in ROLES}
        stored = (running.config.folder / "journal.sqlite").read_bytes()
        stored += (running.config.folder / "journal.sqlite-wal").read_bytes()
        assert not any(secret.encode() in stored for secret in tokens.values())
        assert post(url, picture()).status_code == 401
        assert get(url, headers={"Accept": "text/html"}, allow_redirects=False).headers["location"] == "/login"
        assert get(f"{url}/healthz").status_code == 200
        threshold = {"value": 0.5, "reason": "x", "who": "somebody else"}
        allowed = {}
        for role, secret in (*tokens.items(), ("none", "wrong")):
            headers = {"Authorization": f"Bearer {secret}"}
            about = {"headers": headers, "timeout": SECONDS}
            answers = {
                "inspect": post(url, picture(), headers=headers),
                "read": get(f"{url}/history", headers=headers),
                "review": requests.post(f"{url}/api/pictures/1/review", json={"label": "good"}, **about),
                "decide": requests.post(f"{url}/api/lines/wall/threshold", json=threshold, **about),
            }
            assert get(f"{url}/api/pictures/1", headers=headers).status_code == (200 if role in ROLES else 401)
            allowed[role] = {name for name, answer in answers.items() if answer.status_code not in (401, 403)}
        assert allowed == ROLES | {"none": set()}
        # whoever has a token signs with its name
        assert running.journal.last_event("wall", "threshold")["who"] == "engineer"
        session = requests.Session()
        assert session.post(f"{url}/login", json={"token": "wrong"}, timeout=SECONDS).status_code == 401
        assert session.post(f"{url}/login", json={"token": tokens["reader"]}, timeout=SECONDS).status_code == 200
        assert session.get(f"{url}/", timeout=SECONDS).status_code == 200


def test_overload_is_refused_with_a_time_and_nothing_is_judged_wrong(pipeline, tmp_path):
    config = config_of(tmp_path, pipeline.model_dir, server={"port": 0, "max_waiting": 4})
    inspector = Inspector.load(pipeline.model_dir)
    expected = {seed: inspector.inspect(picture(seed)).score for seed in range(8)}
    with served(config) as (_, url), ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda seed: post(url, picture(seed % 8)), range(40)))
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
    for seed, answer in enumerate(answers):
        assert answer.status_code == 429 or answer.json()["score"] == expected[seed % 8]


def test_a_verdict_that_takes_too_long_is_fetched_later(pipeline, tmp_path, monkeypatch):
    config = config_of(tmp_path, pipeline.model_dir, server={"port": 0, "answer_seconds": 0.2})
    with served(config) as (running, url):
        line, released = running.lines["wall"], threading.Event()

        def slow(row):
            released.wait(SECONDS)
            return Judgement("good", score=0.1, threshold=0.5)

        monkeypatch.setattr(line, "judge", slow)
        answer = post(url, picture())
        assert answer.status_code == 202
        released.set()
        later = wait_until(lambda: get(url + answer.headers["Location"]).json())
        wait_until(lambda: get(url + answer.headers["Location"]).json()["verdict"] == "good")
        assert later["id"] == answer.json()["id"]


def test_a_second_station_in_the_same_folder_is_refused(station, pipeline):
    running, _ = station
    with pytest.raises(ValueError, match="another station"), served(running.config):
        pass


def test_a_client_that_sends_too_fast_is_told_when_to_come_again(pipeline, tmp_path):
    config = config_of(tmp_path, pipeline.model_dir, server={"port": 0, "requests_per_second": 0.2})
    with served(config) as (_, url):
        assert get(f"{url}/login").status_code == 200
        refused = get(f"{url}/login")
        assert get(f"{url}/healthz").status_code == 200  # else a cluster would end it
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        time.sleep(int(refused.headers["Retry-After"]))
        assert get(f"{url}/login").status_code == 200


def test_tokens_of_a_file_are_those_of_the_station(pipeline, tmp_path):
    secret = "s" * 40
    (tmp_path / "tokens").write_text(f"gate camera {secret}\n")
    config = config_of(tmp_path, pipeline.model_dir, server={"port": 0, "token_file": "tokens"})
    with served(config) as (_, url):
        assert post(url, picture()).status_code == 401
        assert post(url, picture(), headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    (tmp_path / "tokens").write_text("gate camera short\n")
    with pytest.raises(ValueError, match="tokens:1: no token"), served(config):
        pass


def test_live_shows_one_line_or_all(pipeline, tmp_path):
    names = "wall", "roof"
    lines = [{"name": name, "model": str(pipeline.model_dir)} for name in names]
    with served(config_of(tmp_path, pipeline.model_dir, lines=lines)) as (_, url):
        assert post(url, picture()).json()["error"] == "which line? (?line= one of wall, roof)"
        first, second = (post(url, picture(), params={"line": name}).json()["id"] for name in names)
        for asked, shown, number in (("", second, 2), ("?line=roof", second, 1), ("?line=wall", first, 1)):
            page = get(f"{url}/{asked}").text
            assert f'data-last="{shown}"' in page
            assert f"of {number} pictures" in page
            assert f'data-refresh="/live{asked}"' in page
        assert get(f"{url}/?line=cellar").status_code == 404
        assert post(url, picture(), params={"line": "cellar"}).status_code == 404


def test_what_three_verdicts_would_send_to_people_is_shown_before(station):
    running, url = station
    post(url, picture(12))
    line = running.lines["wall"]
    loads = queries.review_loads(
        queries.scores(running.journal, "wall", line.model.hash, line.model.engine),
        *(line.model.calibration, line.model.own_record),
    )
    assert [load["review_rate"] for load in loads] == list(queries.REVIEW_RATES)
    values = [load["value"] for load in loads]
    assert values == sorted(values, reverse=True)
    assert all(load["num_review"] >= 0 for load in loads)
    assert "Three verdicts" in get(f"{url}/whatif").text
