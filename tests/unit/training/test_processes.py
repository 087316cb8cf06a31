"""What Fabric is told of the processes that torchrun started, or that it is to start."""

import pytest

from ndpnet.training.processes import fabric_processes, is_first_process


@pytest.fixture
def two_nodes_of_four(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the third process on the second node."""
    started = {"TORCHELASTIC_RUN_ID": "job", "RANK": "6", "LOCAL_RANK": "2", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_on_one_machine_the_parameters_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "6")  # some schedulers set it for their own ends
    assert is_first_process()
    assert fabric_processes(1) == {"devices": 1, "strategy": "auto"}
    assert fabric_processes(4) == {"devices": 4, "strategy": "ddp_spawn"}


def test_under_torchrun_the_nodes_share_the_processes(two_nodes_of_four: pytest.MonkeyPatch) -> None:
    assert not is_first_process()
    assert fabric_processes(8) == {"devices": 4, "num_nodes": 2, "strategy": "ddp"}
    two_nodes_of_four.setenv("RANK", "0")
    assert is_first_process()


def test_another_number_of_processes_than_the_parameters_say_is_refused(two_nodes_of_four: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"torchrun started 8 processes, but runtime.devices is 2 .*devices=8"):
        fabric_processes(2)
