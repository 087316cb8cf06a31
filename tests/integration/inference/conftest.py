"""Every test logs as if it were alone."""

import pytest


@pytest.fixture(autouse=True)
def _handlers_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    """NNCF, once it was imported, leaves them at ERROR."""
    caplog.handler.setLevel(0)
