"""What MLflow's client is asked, and one call that ends otherwise."""

from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


class Killed(BaseException):
    """The process ends here: no handler of the library may catch it."""


def end_here(_: Callable[[], Any]) -> Any:
    raise Killed


def lose_request(_: Callable[[], Any]) -> Any:
    raise MlflowException("API request to http://ada:hunter2@host/api failed\nwith 503")


def lose_answer(call: Callable[[], Any]) -> Any:
    call()
    return lose_request(call)


class Calls:
    """Counts what the client is asked, and at call number `at` does something else with it."""

    def __init__(self, patch: Callable[[Any, str, Any], Any], names: Sequence[str]) -> None:
        self.number, self.at, self.act = 0, 0, lambda call: call()
        self.broken: list[str] = []  # calls that something else was done with
        for name in names:
            patch(MlflowClient, name, self._wrap(name, getattr(MlflowClient, name)))

    def _wrap(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.number += 1
            if self.number != self.at:
                return method(*args, **kwargs)
            self.broken.append(name)
            return self.act(lambda: method(*args, **kwargs))

        return counted
