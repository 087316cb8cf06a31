"""What a station is told: typed, frozen, checked; every default stands in station.yaml."""

import difflib
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, model_validator

from ndpnet.config import NotNegative, Positive, Section
from ndpnet.files import read_yaml
from ndpnet.storage.urls import parse_url

DEFAULTS_PATH = Path(__file__).with_name("station.yaml")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
REGISTERED = re.compile(r"models:/(.+)[@/]([^@/]+)")  # name, and alias or version
PICTURES, MAPS, MODELS = OWN_FOLDERS = "pictures", "maps", "models"  # what is not known there is removed
POSTGRESQL = re.compile(r"postgresql(\+psycopg)?://\S+$")


def _from_base(path: Path, info: ValidationInfo) -> Path:
    return info.context / path if info.context else path


def _model_from_base(model: str, info: ValidationInfo) -> str:
    if not model.startswith("models:/"):
        return str(_from_base(Path(model), info))
    if not REGISTERED.fullmatch(model):
        raise ValueError(f"{model} is no model of the registry (write models:/NAME@ALIAS, or a folder)")
    return model


Located = Annotated[Path, AfterValidator(_from_base)]  # seen from the folder of the file that names it
Above0 = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]


class ServerConfig(Section):
    """Where the page and the interface for pictures are served."""

    host: str
    port: Annotated[int, Field(ge=0, lt=65536)]
    certificate: Located | None
    key: Located | None
    token_file: Located | None
    host_names: tuple[str, ...]
    max_megabytes: Above0
    max_megapixels: Above0
    max_waiting: Positive
    requests_per_second: Above0
    answer_seconds: Above0

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


class StoreConfig(Section):
    """What is stored, and for how long."""

    url: str | None
    maps: Literal["all", "not_good", "none"]
    keep_days: Above0
    keep_gigabytes: Above0


class DriftConfig(Section):
    """When the station says that the line has changed."""

    pictures_per_false_alarm: Annotated[int, Field(ge=100)]
    highest_defect_rate: Annotated[float, Field(ge=0, lt=0.5)]


class CameraConfig(Section):
    """An industrial camera over GigE Vision or USB3 Vision."""

    id: str
    trigger: Literal["software", "hardware"]
    exposure_us: Above0 | None
    gain: NotNegative | None
    pictures_per_second: Above0


class Broker(Section):
    """A broker of messages over MQTT, and the topic."""

    host: str
    topic: str
    port: Positive = 1883
    username: str | None = None
    password_file: Located | None = None
    authority: Located | None = None  # the certificate authority's file: then by TLS


class MessageConfig(Broker):
    """Pictures by MQTT."""

    folder: Located | None = None  # messages name a file below it; None: they are the pictures


class LineConfig(Section):
    """One place where pictures are taken, and the model that judges them."""

    name: Name
    model: Annotated[str, AfterValidator(_model_from_base)]
    source: Located | None
    settle_seconds: NotNegative
    done_dir: Located | None
    engine: str
    precision: str | None
    mqtt: MessageConfig | None
    camera: CameraConfig | None

    @property
    def registered(self) -> tuple[str, str] | None:
        """Name and alias or version in the registry; None of a folder."""
        found = REGISTERED.fullmatch(self.model)
        return None if found is None else (found[1], found[2])


class FileSink(Section):
    """A file with a row per verdict."""

    name: Name
    kind: Literal["jsonl", "csv"]
    path: Located


class WebhookSink(Section):
    """Every verdict as a POST, signed if there is a secret."""

    name: Name
    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern="^https?://")]
    secret_file: Located | None = None


class MqttSink(Broker):
    """Every verdict as a message to a broker."""

    name: Name
    kind: Literal["mqtt"]


class OpcuaSink(Section):
    """The last verdict as variables of an OPC UA server of the station."""

    name: Name
    kind: Literal["opcua"]
    endpoint: Annotated[str, Field(pattern=r"^opc\.tcp://[^/]+:\d+")]


Sink = Annotated[FileSink | WebhookSink | MqttSink | OpcuaSink, Field(discriminator="kind")]


class StationConfig(Section):
    """All that a station is told."""

    folder: Located
    name: Name | None
    journal: str | None
    server: ServerConfig
    store: StoreConfig
    review: tuple[Literal["review", "defective", "error"], ...]
    review_sample: Annotated[float, Field(ge=0, le=1)]
    drift: DriftConfig
    model_seconds: Above0
    logs: Literal["lines", "json"]
    retrain: Literal["none", "dvc", "kfp"]
    checkout: Located | None
    lines: Annotated[tuple[LineConfig, ...], Field(min_length=1)]
    sinks: tuple[Sink, ...]

    @model_validator(mode="after")
    def _settings_fit(self) -> "StationConfig":
        if (self.server.certificate is None) != (self.server.key is None):
            raise ValueError("server.certificate and server.key go together (give both files, or none)")
        if self.store.url is not None:
            parse_url(self.store.url)
        if self.journal is not None and not POSTGRESQL.match(self.journal):  # not shown: it may hold a password
            raise ValueError("journal is no address of PostgreSQL (postgresql://USER@HOST/DATABASE, or leave it out)")
        if self.journal is not None and self.name is None:
            raise ValueError("a journal of several stations needs this one's name (name: ...)")
        if self.retrain != "none" and self.checkout is None:
            raise ValueError(
                f"retrain: {self.retrain} needs a checkout (the clone in which data.dvc pins the pictures)"
            )
        return self

    @model_validator(mode="after")
    def _names_are_apart(self) -> "StationConfig":
        for what, names in (("lines", [line.name for line in self.lines]), ("sinks", [s.name for s in self.sinks])):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{what}: two have the name {min(twice)} (give each its own)")
        return self

    @model_validator(mode="after")
    def _places_are_apart(self) -> "StationConfig":
        watching = [(line, line.source.resolve()) for line in self.lines if line.source is not None]
        written = {"folder": self.folder}
        written |= {f"done_dir of line {line.name}": line.done_dir for line in self.lines if line.done_dir is not None}
        for line, source in watching:
            for what, place in written.items():  # it would come in again as a picture
                if place.resolve().is_relative_to(source):
                    raise ValueError(f"{what}: line {line.name} watches {place} (choose a folder outside of {source})")
        for (one, its), (other, others) in itertools.combinations(watching, 2):
            if (its.is_relative_to(others) or others.is_relative_to(its)) and (one.done_dir or other.done_dir):
                raise ValueError(f"lines {one.name} and {other.name} watch the same pictures (leave out done_dir)")
        paths = [sink.path.resolve() for sink in self.sinks if isinstance(sink, FileSink)]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"sinks: two write to {path} (give each its own file)")
        places = *written.values(), *(source for _, source in watching), *paths
        for place, own in itertools.product(places, OWN_FOLDERS):
            if place.resolve().is_relative_to(self.folder.resolve() / own):
                raise ValueError(f"{place} is among what the station itself stores (choose another place)")
        return self

    @model_validator(mode="after")
    def _verdicts_are_no_pictures(self) -> "StationConfig":
        for sink, line in itertools.product(self.sinks, self.lines):
            taken = line.mqtt
            if taken is None or not isinstance(sink, MqttSink) or (taken.host, taken.port) != (sink.host, sink.port):
                continue
            from paho.mqtt.client import topic_matches_sub

            if any(topic_matches_sub(taken.topic, f"{sink.topic}/{each.name}") for each in self.lines):
                raise ValueError(f"sink {sink.name}: line {line.name} takes its messages for pictures (another topic)")
        return self


def load_station(path: Path) -> StationConfig:
    """Read a station's file; its paths are relative to its folder. ValueError in one line."""
    path = Path(path)
    try:
        values = read_yaml(path)
    except FileNotFoundError as error:
        raise ValueError(f"no file {path} (copy {DEFAULTS_PATH}, or try `ndpnet station --demo`)") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a table of settings (start from {DEFAULTS_PATH})")
    return parse_station(values, base=path.parent, name=str(path))


def parse_station(values: dict[str, Any], *, base: Path, name: str = "the station") -> StationConfig:
    """Lay settings over the defaults and check them. ValueError in one line."""
    said = {key: value for key, value in values.items() if value is not None}
    resolved = _lay_over(read_yaml(DEFAULTS_PATH), said)
    of_line, of_camera = resolved.pop("line"), resolved.pop("camera")
    for section, value in (("line", of_line), ("camera", of_camera)):
        if not isinstance(value, dict):
            raise ValueError(f"{name}: setting {section!r} is no table of settings, but {value!r}")
    if isinstance(resolved["lines"], list):
        resolved["lines"] = [_lay_over(of_line, line) for line in resolved["lines"]]
        for line in resolved["lines"]:
            if isinstance(line, dict) and line["camera"] is not None:
                line["camera"] = _lay_over(of_camera, line["camera"])
    try:
        return StationConfig.model_validate(resolved, context=base.absolute())
    except ValidationError as error:
        # lines that are wrong are none, says pydantic: their own mistakes come first
        first = [each for each in error.errors() if each["type"] != "too_short"] or error.errors()
        raise ValueError(f"{name}: {'; '.join(map(_explain, first))}") from error


def _lay_over(defaults: Any, values: Any) -> Any:
    """What was said, over the defaults of what was not, table by table."""
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return defaults | {name: _lay_over(defaults.get(name), value) for name, value in values.items()}


def _explain(error: Any) -> str:
    name, last = ".".join(str(part) for part in error["loc"]), str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        sections = (kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Section))
        known = {field for kind in sections for field in kind.model_fields} - {last}
        near = difflib.get_close_matches(last, sorted(known), n=1, cutoff=0.5)
        return f"unknown setting {name!r}" + (f" (did you mean {near[0]!r}?)" if near else f" (see {DEFAULTS_PATH})")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or not name:
        return message
    shown = "" if isinstance(error["input"], dict | list | tuple) else f", not {error['input']!r}"
    return f"setting {name!r}: {message}{shown}"
