"""The command: reads the job, sets up the process before anything heavy is imported, runs it."""

import json
import logging
import os
import sys
import threading
from pathlib import Path

from worker.settings import PeerSettings


def main() -> None:
    """Run the job that the command line names."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings = PeerSettings(**job["settings"])
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights are taken from the cache, a benchmark fetches nothing
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    from worker.run import run

    identity = {"settings": job["settings"], "data": job["data"]}
    run(settings, prepared_dir=Path(job["prepared"]), out_dir=Path(job["out"]), identity=identity)


def _end_with_launcher() -> None:
    """Return never: standard input ends when the process that holds its other end does, however that was."""
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held when this process ends
        pass
    print("the process that started this worker has ended", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
