"""Progress for people: a bar on a terminal, one line every few seconds elsewhere."""

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Shows step, loss, images/s and time left of one phase."""

    def __init__(self, title: str, *, num_steps: int, first_step: int, batch_size: int, log_seconds: float) -> None:
        self.title, self.num_steps, self.batch_size, self.log_seconds = title, num_steps, batch_size, log_seconds
        self.first_step, self.started = first_step, time.monotonic()
        self.last_line = self.started
        is_terminal = sys.stderr.isatty()
        self.bar = tqdm(desc=title, total=num_steps, initial=first_step, unit="step") if is_terminal else None

    def update(self, step: int, loss: float) -> None:
        """Tell that `step` steps are done."""
        now = time.monotonic()
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix(loss=f"{loss:.4f}", images_per_s=f"{rate * self.batch_size:.1f}")
        elif now - self.last_line >= self.log_seconds or step == self.num_steps:
            self.last_line = now
            seconds_left = (self.num_steps - step) / max(rate, 1e-9)
            about = self.title, step, self.num_steps, loss, rate * self.batch_size, tqdm.format_interval(seconds_left)
            logger.info("%s: step %d/%d, loss %.4f, %.1f images/s, %s left", *about)

    def close(self) -> dict[str, float]:
        """End the display. -> seconds and images/s of this process's part of the phase."""
        if self.bar is not None:
            self.bar.close()
        seconds = time.monotonic() - self.started
        done = self.num_steps - self.first_step
        return {"seconds": seconds, "images_per_second": done * self.batch_size / max(seconds, 1e-9)}
