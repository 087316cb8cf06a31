"""What Prometheus is told: counted in this process, as Prometheus expects; a restart begins at 0."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ndpnet.station.journal import Judgement

if TYPE_CHECKING:
    from ndpnet.station.station import Station

BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds of a verdict


class Measures:
    """The registry of one station."""

    def __init__(self, station: "Station") -> None:
        self._station, self._registry = station, CollectorRegistry()
        self._verdicts = Counter("ndpnet_verdicts", "Verdicts", ["line", "verdict"], registry=self._registry)
        self._seconds = Histogram(
            "ndpnet_verdict_seconds", "Time of one verdict", ["line"], buckets=BUCKETS, registry=self._registry
        )
        self._registry.register(self)

    def count(self, line: str, judgement: Judgement) -> None:
        """Count a verdict."""
        self._verdicts.labels(line, judgement.verdict).inc()
        self._seconds.labels(line).observe(judgement.seconds)

    def text(self) -> bytes:
        """All measures in Prometheus' format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """What is so now; the registry calls this."""
        station = self._station
        waiting = station.journal.num_waiting()
        yield GaugeMetricFamily("ndpnet_waiting_pictures", "Pictures that wait for a verdict", waiting)
        yield GaugeMetricFamily("ndpnet_problems", "Threads that cannot do their work", len(station.problems))
        lag = GaugeMetricFamily("ndpnet_sink_lag", "Verdicts that are not delivered", labels=["sink"])
        for name, sink in station.sinks.items():
            lag.add_metric([name], sink.lag())
        drift = GaugeMetricFamily("ndpnet_drift_statistic", "1 and above: the line has changed", labels=["line"])
        model = GaugeMetricFamily("ndpnet_model", "The model in use", labels=["line", "model", "hash"])
        for name, line in station.lines.items():
            drift.add_metric([name], line.watch.statistic / station.config.drift.pictures_per_false_alarm)
            model.add_metric([name, line.model.facts["model"], line.model.hash], 1)
        yield from (lag, drift, model)
