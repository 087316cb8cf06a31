"""Frames of an industrial camera on standard output; run by a Python that has Aravis: Debian's python3-gi.

python3 aravis_frames.py '{"id": ..., "trigger": "software" | "hardware", "exposure_us": ..., "gain": ...}'

With a software trigger a line on standard input asks for a frame. A frame is a line of JSON (width, height, channels)
and its bytes, rows from the top. The process ends when the camera is gone, with a line of JSON that says why in
`error`, or when standard input is closed.
"""

import json
import os
import sys
import threading
from typing import Any

try:
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis, GLib
except (ImportError, ValueError) as error:
    hint = "apt-get install python3-gi gir1.2-aravis-0.8"
    print(json.dumps({"error": f"{sys.executable} has no Aravis: {error} ({hint})"}), flush=True)
    raise SystemExit(1) from None

NUM_BUFFERS = 4
WAIT_US = 1_000_000
FORMATS = {"Mono8": 1, "RGB8": 3, "RGB8Packed": 3}  # and their channels


def main() -> None:
    """Open the camera and send its frames for ever."""
    settings = json.loads(sys.argv[1])
    camera = Aravis.Camera.new(settings["id"] or None)
    gone = threading.Event()
    camera.get_device().connect("control-lost", lambda *_: gone.set())
    channels = configure(camera, settings)
    stream = camera.create_stream(None, None)
    for _ in range(NUM_BUFFERS):
        stream.push_buffer(Aravis.Buffer.new_allocate(camera.get_payload()))
    camera.start_acquisition()
    if settings["trigger"] == "software":
        for _ in sys.stdin:
            camera.software_trigger()
            if gone.is_set() or not send(stream, channels):
                raise OSError("no whole picture came")
    else:
        threading.Thread(target=end_with_station, daemon=True).start()
        while not gone.is_set():
            send(stream, channels)
        raise OSError("its cable was pulled, or another program has taken it")
    camera.stop_acquisition()


def end_with_station() -> None:
    """A killed station must not leave a process behind that has its camera."""
    sys.stdin.read()
    os._exit(0)


def configure(camera: Any, settings: dict[str, Any]) -> int:
    """Set format, trigger, exposure and gain. -> channels of a frame"""
    known = camera.dup_available_pixel_formats_as_strings()
    chosen = next((name for name in ("RGB8", "RGB8Packed", "Mono8") if name in known), None)
    if chosen is None:
        raise OSError(f"it has neither RGB8 nor Mono8, but {', '.join(known)}")
    camera.set_pixel_format_from_string(chosen)
    camera.set_acquisition_mode(Aravis.AcquisitionMode.CONTINUOUS)
    camera.set_trigger("Software" if settings["trigger"] == "software" else "Line1")
    if settings["exposure_us"] is not None:
        camera.set_exposure_time(settings["exposure_us"])
    if settings["gain"] is not None:
        camera.set_gain(settings["gain"])
    return FORMATS[chosen]


def send(stream: Any, channels: int) -> bool:
    """Wait for a frame and write it. -> whether one came whole"""
    buffer = stream.timeout_pop_buffer(WAIT_US)
    if buffer is None:
        return False
    is_whole = buffer.get_status() == Aravis.BufferStatus.SUCCESS
    if is_whole:
        size = {"width": buffer.get_image_width(), "height": buffer.get_image_height(), "channels": channels}
        out = sys.stdout.buffer
        out.write(json.dumps(size).encode() + b"\n" + buffer.get_data()[: size["width"] * size["height"] * channels])
        out.flush()
    stream.push_buffer(buffer)
    return is_whole


if __name__ == "__main__":
    try:
        main()
    except (GLib.Error, OSError) as error:
        print(json.dumps({"error": getattr(error, "message", str(error))}), flush=True)
