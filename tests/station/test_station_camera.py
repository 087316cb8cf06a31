"""A line with a GigE Vision camera: Aravis' own fake one, which speaks the real protocol."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import launch
from sqlalchemy import text
from stations import config_of, intake_of, wait_until

from ndpnet.station.camera import PYTHON, Camera

FAKE = shutil.which("arv-fake-gv-camera-0.8")


def has_aravis() -> bool:
    code = "import gi; gi.require_version('Aravis', '0.8'); from gi.repository import Aravis"
    return (
        Path(PYTHON).exists() and not subprocess.run([PYTHON, "-c", code], capture_output=True, check=False).returncode
    )


needs_aravis = pytest.mark.skipif(
    FAKE is None or not has_aravis(),
    reason="no Aravis on this machine (apt-get install python3-gi gir1.2-aravis-0.8 aravis-tools)",
)


def camera_of(folder: Path, **camera) -> Camera:
    settings = {"id": "127.0.0.1", "pictures_per_second": 20, "exposure_us": 2000, "gain": 1} | camera
    config = config_of(folder, folder / "model", wall={"source": None, "camera": settings}, server={"max_waiting": 4})
    return Camera(config.lines[0], intake_of(config))


def ask(camera: Camera) -> None:
    """Ask for a few pictures."""
    for _ in range(20):
        camera.step()
        time.sleep(0.03)


@needs_aravis
def test_frames_become_pictures_and_a_cable_that_was_pulled_is_found_again(tmp_path):
    from PIL import Image

    camera = camera_of(tmp_path)
    journal, store = camera.intake.journal, camera.intake.store
    fake_camera = ("camera", [FAKE, "-i", "127.0.0.1"], tmp_path, os.environ.copy())
    fake = launch(*fake_camera)

    def takes() -> bool:
        before = journal.num_waiting()
        try:
            camera.step()
        except OSError:
            return False
        return journal.num_waiting() > before

    try:
        wait_until(takes)
        wait_until(takes)
        rows = journal.rows(text("SELECT file, key FROM pictures"))
        assert len({row["key"] for row in rows}) == 2
        with Image.open(store.folder / rows[0]["file"]) as picture:
            assert picture.size == (512, 512)
        fake.kill()
        fake.wait()
        with pytest.raises(OSError, match=r"127\.0\.0\.1 is away: "):
            ask(camera)
        fake = launch(*fake_camera)
        wait_until(takes)
        # four wait: no frame is asked for that there is no room for
        wait_until(lambda: takes() or journal.num_waiting() == 4)
        wait_until(lambda: takes() or journal.num_waiting() == 4)
        assert not any(takes() for _ in range(50))
    finally:
        camera.close()
        fake.kill()


@needs_aravis
def test_without_a_camera_it_is_away_and_said_why_where_people_look(tmp_path, capfd):
    camera = camera_of(tmp_path, id="203.0.113.1")
    with pytest.raises(OSError, match=r"^the camera 203\.0\.113\.1 is away: Can't connect to device"):
        ask(camera)
    assert camera.intake.journal.num_waiting() == 0
    assert capfd.readouterr().err == ""  # it tries every other second: no traceback each time
    camera.close()


def test_a_python_without_aravis_is_said_with_what_to_install(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ndpnet.station.camera.PYTHON", sys.executable)
    camera = camera_of(tmp_path)
    with pytest.raises(OSError, match=r"has no Aravis: .*apt-get install python3-gi gir1\.2-aravis-0\.8"):
        ask(camera)
    assert capfd.readouterr().err == ""
