"""Every setting of the emulator, declared once.

A setting is a flag (`--data-dir`), an environment variable (`VERTEX_EMULATOR_DATA_DIR`) and a key of the
configuration file (`data_dir = "…"`). Flags override the environment, which overrides the file.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from emulator.files import cause, read_toml
from emulator.redaction import origin_only

ENVIRONMENT_PREFIX = "VERTEX_EMULATOR_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
STORAGE_VARIABLE = "STORAGE_EMULATOR_HOST"
"""The endpoint variable of Cloud Storage clients; `gcs_endpoint` falls back to it."""
CLIENT_VARIABLE = f"{ENVIRONMENT_PREFIX}CLIENT_OF"
"""Set by `vertex-emulator env`. STORAGE_VARIABLE is ignored if both have the same value."""

_MOST_CONFIG_BYTES = 256 << 10
_USUAL_PORTS = {"http": 80, "https": 443}

LOCAL = "local"
"""The value of `gcs_endpoint` and `gcs_buckets` for buckets in the local folder."""

Provider = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
ExecutorChoice = Literal["processes", "inline", "ray"]
DecoderChoice = Literal["auto", "opencv", "av"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
NotifyFormat = Literal["webhook", "pubsub-push"]


class SettingError(ValueError):
    """A setting has an invalid value; the message names the setting, its source and the valid values."""


def _setting(
    default: Any,
    help_text: str,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    check: Callable[[Any], None] | None = None,
    secret: bool = False,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        default: the value if no source gives one.
        help_text: the help text of the flag.
        minimum: the smallest valid number.
        maximum: the largest valid number.
        check: raises ValueError for an invalid value of the right type.
        secret: the value is never shown.
    """
    metadata = {"help": help_text, "minimum": minimum, "maximum": maximum, "check": check, "secret": secret}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _check_project_numbers(numbers: Mapping[str, str]) -> None:
    projects: dict[str, str] = {}
    for project, number in numbers.items():
        if not (number.isascii() and number.isdecimal()):
            raise ValueError(f"{project} has {number!r} for its number; digits are needed.")
        other = projects.setdefault(number, project)
        if other != project:
            raise ValueError(f"{other} and {project} have the same number, {number}; give each its own.")


def origin_of(url: str) -> str:
    """Return the origin as browsers send it: `http://localhost:3000`, without the scheme's default port.

    Raises:
        ValueError: `url` is not the origin of a web page.
    """
    parts = urlsplit(url)
    scheme, host, port = parts.scheme.lower(), (parts.hostname or "").rstrip("."), parts.port
    if scheme not in _USUAL_PORTS or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"{url!r} is no origin; write it as http://localhost:3000.")
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port in (None, _USUAL_PORTS[scheme]) else f":{port}")


def _check_origins(origins: Sequence[str]) -> None:
    for origin in origins:
        origin_of(origin)


def _check_token(token: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,}", token):
        raise ValueError("a token has 8 or more letters, digits and -._~+/=, as RFC 6750 has it.")


def _check_urls(urls: Sequence[str]) -> None:
    for url in urls:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in _USUAL_PORTS and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or re.search(r"[\x00-\x20\x7f]", url):
            raise ValueError("a URL begins with http:// or https:// and a host, and has no blanks.")


@dataclass(frozen=True)
class Settings:
    """All settings, with their defaults. `load_settings` builds one; so may your code."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 inside a container.")
    port: int = _setting(8080, "Port of the REST surface; 0 takes a free one.", minimum=0, maximum=65535)
    grpc: bool = _setting(
        True, "Serve gRPC in plain text on a port of its own. Its server starts with the first connection."
    )
    grpc_port: int | None = _setting(
        None,
        "Port of plain-text gRPC. Default: the one after `port`, or a free one when that is 0.",
        minimum=0,
        maximum=65535,
    )
    tls: bool = _setting(
        False, "Serve REST and gRPC over TLS too, with a certificate of the emulator's own, on one port."
    )
    tls_port: int | None = _setting(
        None, "Port of TLS. Default: 8443, or a free one when `port` is 0.", minimum=0, maximum=65535
    )
    tls_names: list[str] = _setting(
        [],
        "More host names and addresses for the certificate, besides localhost, this host's name and"
        " *.googleapis.com. Separate several with commas.",
    )
    data_dir: Path = _setting(
        Path("vertex-emulator-data"), "Folder of everything the emulator keeps: database, buckets, models."
    )
    storage_dir: Path | None = _setting(
        None,
        "Folder whose sub-folders are the buckets: gs://bucket/object is the file bucket/object in it."
        " Default: `buckets` in the data folder.",
    )
    gcs_endpoint: str = _setting(
        LOCAL,
        "Where jobs find their buckets: `local`, the folder of buckets, or the URL of a Cloud Storage"
        " endpoint such as fake-gcs-server, as in `http://127.0.0.1:4443`. STORAGE_EMULATOR_HOST counts too,"
        " unless `vertex-emulator env` set it.",
    )
    gcs_buckets: dict[str, str] = _setting(
        {},
        "Buckets that lie elsewhere than `gcs_endpoint` says, by name or pattern, as in"
        " `results=local,videos-*=http://127.0.0.1:4443`.",
    )
    gcs_allow_google: bool = _setting(
        False,
        "Let `gcs_endpoint` and `gcs_buckets` name the real Cloud Storage, which is then read and written"
        " with Application Default Credentials.",
    )
    gcs_cache_mb: int = _setting(
        2000, "Megabytes of videos from endpoints to keep in the data folder.", minimum=0
    )
    database_url: str | None = _setting(
        None, "SQLAlchemy URL of the database. Default: a SQLite file in the data folder."
    )
    models_dirs: list[Path] = _setting(
        [],
        "More folders to serve models from, each holding one folder with a model.toml per model."
        " Separate several with the system's path separator.",
    )
    bundled_models: bool = _setting(True, "Serve the models that come with the emulator.")
    project_numbers: dict[str, str] = _setting(
        {},
        "Project numbers by project id, as in `my-project=123456789012,other=42`."
        " A project without an entry gets a stable number derived from its id.",
        check=_check_project_numbers,
    )
    prediction_cache_mb: int = _setting(
        500,
        "Megabytes of models' raw results to keep in the data folder, so that a job on the same video and"
        " model computes only what is missing; 0 keeps nothing.",
        minimum=0,
    )
    provider: Provider = _setting(
        "auto",
        "Execution provider of ONNX Runtime: cpu, cuda, tensorrt, openvino, or auto for the first of cuda,"
        " openvino and cpu that works. If you name one that does not work, the job fails: there is no"
        " fallback.",
    )
    decoder: DecoderChoice = _setting(
        "auto",
        "Library that decodes videos: opencv; av for PyAV, which the extra `av` installs; or auto for OpenCV,"
        " and PyAV if installed for what OpenCV refuses or shows in wrong colours.",
    )
    executor: ExecutorChoice = _setting(
        "processes",
        "Where models run: processes for worker processes; inline for threads of the server itself, for"
        " debugging: breakpoints work, and a crash of native code ends the server; or ray for actors of a Ray"
        " cluster, with the extra `ray`.",
    )
    ray_address: str = _setting(
        "auto",
        "Ray cluster of the executor `ray`: auto for the one that this machine is a node of, or host:port of"
        " its head.",
    )
    ray_cpus: int = _setting(1, "CPUs that each worker on Ray asks for.", minimum=0, maximum=1024)
    ray_gpus: int = _setting(0, "GPUs that each worker on Ray asks for.", minimum=0, maximum=64)
    workers: int = _setting(
        2, "Workers that run models; one video runs in one worker.", minimum=1, maximum=256
    )
    worker_threads: int = _setting(
        0, "Threads that run the model in each worker; 0 for one per core.", minimum=0, maximum=1024
    )
    worker_timeout: int = _setting(
        300,
        "Seconds without a sign of life after which a worker process is killed and its work retried.",
        minimum=1,
    )
    max_running_jobs: int = _setting(8, "Jobs that run at the same time; the others stay PENDING.", minimum=1)
    retention_days: int | None = _setting(
        None,
        "Days after which finished jobs and operations are removed, with their history but not their output."
        " Default: they stay.",
        minimum=1,
        maximum=36_500,
    )
    strict: bool = _setting(
        False,
        "Refuse what the emulator otherwise forgives: single-quoted input lines, a model name without"
        " `models/`, unknown query parameters, videos that are damaged or incomplete.",
    )
    seed: int | None = _setting(
        None, "Deterministic mode: ids and times of resources follow from this number. Default: they do not."
    )
    seed_dir: Path | None = _setting(
        None, "Folder of models, buckets, jobs and control.json that is loaded at the first start."
    )
    pace: str = _setting(
        "real",
        "How long jobs stay in which state: real, immediate, steps, or states with a time, a number of"
        " GETs or `hold`, as in `pending=2s,running=3,cancelling=hold`.",
    )
    hold_timeout: int = _setting(
        4, "Seconds after which a call that a pace holds is answered at the latest.", minimum=0, maximum=600
    )
    allowed_hosts: list[str] = _setting(
        [],
        "More host names by which the emulator may be called, besides addresses, localhost, this machine's"
        " name and names that only a local network gives out. Separate several with commas.",
    )
    allowed_origins: list[str] = _setting(
        [],
        "Origins of web pages that may use the emulator, as in `http://localhost:3000`; all others but its"
        " own are refused. Separate several with commas.",
        check=_check_origins,
    )
    auth_token: str | None = _setting(
        None,
        "Bearer token that every surface but `/_emulator/health` then asks for. Default: none is needed.",
        check=_check_token,
        secret=True,
    )
    notify_url: list[str] = _setting(
        [],
        "URLs that get a POST when a job ends, at least once each. Separate several with commas. Only the"
        " scheme, the host and the port are ever shown.",
        check=_check_urls,
        secret=True,
    )
    notify_format: NotifyFormat = _setting(
        "webhook",
        "What is POSTed: webhook for a JSON document with the job, or pubsub-push for the envelope of a"
        " Pub/Sub push subscription around the job.",
    )
    notify_timeout: int = _setting(
        10, "Seconds after which a POST to a `notify_url` counts as failed.", minimum=1, maximum=600
    )
    otel: bool = _setting(
        False,
        "Export OpenTelemetry spans of calls, jobs and shards over OTLP, as the OTEL_* variables say. The"
        " extra `otel` installs what this needs.",
    )
    console: bool = _setting(True, "Serve the web console at `/console`.")
    log_level: LogLevel = _setting(
        "info", "How much to log: debug (also why a call was refused), info (each call), warning or error."
    )
    log_format: LogFormat = _setting("text", "How to log: text, or json for one JSON object per line.")

    @property
    def buckets(self) -> Path:
        """The folder whose sub-folders are the buckets."""
        return self.storage_dir or self.data_dir / "buckets"

    @property
    def own_models(self) -> Path:
        """The folder that `models add` puts models into."""
        return self.data_dir / "models"

    @property
    def tls_folder(self) -> Path:
        """The folder of the certificates and of the fake account for clients."""
        return self.data_dir / "tls"

    @property
    def client_host(self) -> str:
        """The host for URLs of clients on this machine: loopback if the server listens on all addresses."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host

    @property
    def certified_names(self) -> list[str]:
        """The host names from the settings that the certificate must contain."""
        return [*([] if self.host in ("0.0.0.0", "::") else [self.host]), *self.tls_names]

    @property
    def database(self) -> str:
        """The SQLAlchemy URL: `database_url`, else the SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'emulator.db').absolute()}"


@dataclass(frozen=True)
class LoadedSettings:
    """Settings with their sources: per name a flag, a variable's name, the file's path, or `default`."""

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> LoadedSettings:
    """Combine flags, environment and configuration file.

    An empty text in any of them counts as not given: it comes from a variable that is not set.

    Args:
        flags: values by setting name; None means the flag was not given.
        environ: the environment, `os.environ` by default.
        config_file: a TOML file; by default the one that VERTEX_EMULATOR_CONFIG names.

    Raises:
        SettingError: a value is invalid, a key of the file is unknown, or the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])
    values: dict[str, object] = {}
    sources = dict.fromkeys((setting.name for setting in dataclasses.fields(Settings)), "default")
    layers: tuple[tuple[Mapping[str, object], Callable[[str], str]], ...] = (
        (_from_clients(environ), lambda _: STORAGE_VARIABLE),
        (_from_file(config_file), lambda _: str(config_file)),
        (_from_environment(environ), variable_name),
        (flags or {}, flag_name),
    )
    for layer, source_of in layers:
        for name, value in layer.items():
            if not _is_empty(value):
                sources[name] = source_of(name)
                values[name] = _convert(name, value, sources[name])
    return LoadedSettings(Settings(**values), sources, tuple(_unknown_variables(environ)))  # type: ignore[arg-type]


def shown_settings(settings: Settings) -> dict[str, object]:
    """Return every setting by name as a JSON value, with secrets and passwords in URLs replaced by `***`."""
    shown: dict[str, object] = {}
    for setting in dataclasses.fields(Settings):
        value = getattr(settings, setting.name)
        if setting.name == "notify_url":
            value = [origin_only(url) for url in value]
        elif setting.metadata["secret"] and value is not None:
            value = "***"
        elif setting.name == "database_url" and value:
            value = re.sub(r"//([^:@/]+):[^@/]+@", r"//\1:***@", value)
        elif isinstance(value, list):
            value = [str(entry) for entry in value]
        shown[setting.name] = str(value) if isinstance(value, Path) else value
    return shown


def flag_name(setting: str) -> str:
    """Return the command-line flag of a setting."""
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting.upper()


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    names = (setting.name for setting in dataclasses.fields(Settings))
    return {name: environ[variable_name(name)] for name in names if variable_name(name) in environ}


def _is_empty(value: object) -> bool:
    """Return whether a value counts as not given: None, "", a list of empty texts. An empty list is given."""
    return value in (None, "") or (isinstance(value, list) and value != [] and not any(value))


def _from_clients(environ: Mapping[str, str]) -> dict[str, object]:
    """Return the settings taken from STORAGE_EMULATOR_HOST. They have the lowest precedence."""
    endpoint = environ.get(STORAGE_VARIABLE)
    if not endpoint or endpoint == environ.get(CLIENT_VARIABLE):
        return {}
    return {"gcs_endpoint": endpoint}


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {variable_name(setting.name) for setting in dataclasses.fields(Settings)}
    known |= {CONFIG_VARIABLE, CLIENT_VARIABLE}
    unknown = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    return [f"{name} is not a setting{_suggestion(name, known)}." for name in unknown]


def _from_file(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        values = read_toml(path.expanduser(), _MOST_CONFIG_BYTES)
    except OSError as error:
        raise SettingError(f"The configuration file {path} cannot be read: {cause(error)}.") from error
    except ValueError as error:
        raise SettingError(f"The configuration file {path} is not valid TOML: {error}.") from error
    known = [setting.name for setting in dataclasses.fields(Settings)]
    for name in values:
        if name not in known:
            raise SettingError(f"{path}: {name!r} is not a setting{_suggestion(name, known)}.")
    return values


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}" if close else ""


def _convert(name: str, value: object, source: str) -> object:
    setting = next(setting for setting in dataclasses.fields(Settings) if setting.name == name)
    try:
        converted = _parse(setting.type, value)
        _check(setting.metadata, converted)
    except ValueError as error:
        # The name of a flag or a variable contains the setting's name; the path of a file does not.
        named = source in (flag_name(name), variable_name(name), STORAGE_VARIABLE)
        where = source if named else f"{source}: {name}"
        shown = "its value" if setting.metadata["secret"] else repr(value)
        raise SettingError(f"{where}: {shown} does not fit: {error}") from error
    return converted


def _check(rules: Mapping[str, Any], value: object) -> None:
    minimum, maximum = rules["minimum"], rules["maximum"]
    if isinstance(value, int) and minimum is not None and value < minimum:
        raise ValueError(f"the smallest possible value is {minimum}.")
    if isinstance(value, int) and maximum is not None and value > maximum:
        raise ValueError(f"the largest possible value is {maximum}.")
    if rules["check"] is not None:
        rules["check"](value)


def _parse(kind: Any, value: object) -> object:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"choose one of {', '.join(get_args(kind))}.")
        return value
    if kind is bool:
        return _parse_bool(value)
    if kind in (int, int | None):
        return _parse_int(value)
    if kind == dict[str, str]:
        return _parse_mapping(value)
    if kind == list[Path]:
        return [_parse_path(entry) for entry in _entries(value, os.pathsep) if entry != ""]
    if kind == list[str]:
        return _parse_list(value)
    if kind in (Path, Path | None):
        return _parse_path(value)
    return _parse_text(value)


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed.")
    return value


def _parse_path(value: object) -> Path:
    path = value if isinstance(value, Path) else Path(_parse_text(value))
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"nobody here has the home folder {path.parts[0]}. Write the path out, or ./{path} if that is"
            " its name."
        ) from None


def _parse_bool(value: object) -> bool:
    words = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("use true or false.")


def _parse_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number is needed.")
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number is needed.") from None


def _parse_list(value: object) -> list[str]:
    parts = (part for entry in _entries(value, ",") for part in _parse_text(entry).split(","))
    return [part.strip() for part in parts if part.strip()]


def _entries(value: object, separator: str) -> Sequence[object]:
    entries = value.split(separator) if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise ValueError("a list of texts is needed.")
    return entries


def _parse_mapping(value: object) -> dict[str, str]:
    if isinstance(value, Mapping):
        # TOML users write a project number without quotes.
        return {key: str(entry) if type(entry) is int else _parse_text(entry) for key, entry in value.items()}
    pairs = [pair.strip().partition("=") for pair in _parse_text(value).split(",") if pair.strip()]
    if any(not key or not entry for key, _, entry in pairs):
        raise ValueError("write it as `name=value,other=value`.")
    mapping = {key.strip(): entry.strip() for key, _, entry in pairs}
    if len(mapping) < len(pairs):
        raise ValueError("a name is there twice.")
    return mapping
