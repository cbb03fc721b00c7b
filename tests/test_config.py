"""Settings: where a value comes from, and what a bad one is answered with."""

import dataclasses
from pathlib import Path

import pytest

from emulator.config import SettingError, Settings, load_settings, variable_name


def test_defaults_are_marked_as_defaults() -> None:
    loaded = load_settings({}, {})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text('port = 1\nworkers = 1\nhost = "0.0.0.0"\n', encoding="utf-8")
    environ = {"VERTEX_EMULATOR_PORT": "2", "VERTEX_EMULATOR_WORKERS": "2"}
    loaded = load_settings({"port": 3, "workers": None}, environ, config)
    assert (loaded.settings.port, loaded.settings.workers, loaded.settings.host) == (3, 2, "0.0.0.0")
    assert loaded.sources["port"] == "--port"
    assert loaded.sources["workers"] == "VERTEX_EMULATOR_WORKERS"
    assert loaded.sources["host"] == str(config)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text("strict = true\n", encoding="utf-8")
    assert load_settings({}, {"VERTEX_EMULATOR_CONFIG": str(config)}).settings.strict


def test_lists_and_mappings_can_be_written_as_text() -> None:
    environ = {"VERTEX_EMULATOR_PROJECT_NUMBERS": "a=1, b=22", "VERTEX_EMULATOR_MODELS_DIRS": "/m:/n"}
    settings = load_settings({}, environ).settings
    assert settings.project_numbers == {"a": "1", "b": "22"}
    assert settings.models_dirs == [Path("/m"), Path("/n")]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"VERTEX_EMULATOR_PORT": "http"},
            "VERTEX_EMULATOR_PORT: 'http' does not fit: a whole number is needed.",
        ),
        ({"VERTEX_EMULATOR_PORT": "70000"}, "the largest possible value is 65535"),
        ({"VERTEX_EMULATOR_RETENTION_DAYS": "99999999999"}, "the largest possible value is 36500"),
        ({"VERTEX_EMULATOR_WORKERS": "0"}, "the smallest possible value is 1"),
        ({"VERTEX_EMULATOR_PROVIDER": "tpu"}, "choose one of auto, cpu, cuda, tensorrt, openvino"),
        ({"VERTEX_EMULATOR_STRICT": "perhaps"}, "use true or false"),
        ({"VERTEX_EMULATOR_PROJECT_NUMBERS": "a:1"}, "name=value,other=value"),
        ({"VERTEX_EMULATOR_PROJECT_NUMBERS": "a=1,a=2"}, "a name is there twice"),
        ({"VERTEX_EMULATOR_PROJECT_NUMBERS": "a=b"}, "a has 'b' for its number; digits are needed"),
        ({"VERTEX_EMULATOR_PROJECT_NUMBERS": "a=٣"}, "digits are needed"),
        (
            {"VERTEX_EMULATOR_PROJECT_NUMBERS": "a=1,b=1"},
            "a and b have the same number, 1; give each its own",
        ),
        (
            {"VERTEX_EMULATOR_DATA_DIR": "~nobody-of-that-name/x"},
            "or ./~nobody-of-that-name/x if that is its name",
        ),
    ],
)
def test_bad_value_names_its_source_and_the_remedy(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_settings({}, environ)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "did you mean port."),
        ("port =", "not valid TOML"),
        ('port = "x"', "emulator.toml: port: 'x' does not fit: a whole number is needed."),
        ("port = 70000", "emulator.toml: port: 70000 does not fit: the largest possible value is 65535."),
        ('data_dir = ["x"]', "data_dir: ['x'] does not fit: text is needed."),
        ("models_dirs = [1]", "models_dirs: [1] does not fit: text is needed."),
        ("tls_names = [1]", "tls_names: [1] does not fit: text is needed."),
        ('project_numbers = ["a=1"]', "project_numbers: ['a=1'] does not fit: text is needed."),
        ('[gcs_buckets]\na = ["local"]', "gcs_buckets: {'a': ['local']} does not fit: text is needed."),
        ("[project_numbers]\na = 1\nb = 1", "a and b have the same number, 1"),
    ],
)
def test_bad_file_names_the_file_and_the_setting(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=str(config)) as caught:
        load_settings({}, {}, config)
    assert message in str(caught.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        load_settings({}, {}, tmp_path / "missing.toml")


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    config = tmp_path / "emulator.toml"
    config.write_bytes(b"\xef\xbb\xbfport = 1\n")
    assert load_settings({}, {}, config).settings.port == 1


def test_numbers_of_projects_may_be_numbers_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text('[project_numbers]\na = 1\nb = "02"\n', encoding="utf-8")
    assert load_settings({}, {}, config).settings.project_numbers == {"a": "1", "b": "02"}


@pytest.mark.parametrize("setting", [setting.name for setting in dataclasses.fields(Settings)])
def test_empty_text_counts_as_not_given_wherever_it_stands(tmp_path: Path, setting: str) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text(f'{setting} = ""\n', encoding="utf-8")
    loaded = load_settings({setting: ""}, {variable_name(setting): ""}, config)
    assert loaded == load_settings({}, {})
    assert load_settings({setting: [""]}, {}).settings == Settings()


def test_empty_flag_leaves_the_word_to_the_environment() -> None:
    environ = {"VERTEX_EMULATOR_HOST": "::1", "VERTEX_EMULATOR_MODELS_DIRS": "/m::/n"}
    loaded = load_settings({"host": "", "models_dirs": ["", ""]}, environ)
    assert (loaded.settings.host, loaded.sources["host"]) == ("::1", "VERTEX_EMULATOR_HOST")
    assert loaded.settings.models_dirs == [Path("/m"), Path("/n")]


def test_tilde_is_the_home_folder_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "emulator.toml").write_text('storage_dir = "~/buckets"\n', encoding="utf-8")
    environ = {
        "VERTEX_EMULATOR_CONFIG": "~/emulator.toml",
        "VERTEX_EMULATOR_DATA_DIR": "~/data",
        "VERTEX_EMULATOR_MODELS_DIRS": "/m:~/n",
    }
    settings = load_settings({"seed_dir": "~/seed"}, environ).settings
    assert (settings.storage_dir, settings.data_dir) == (tmp_path / "buckets", tmp_path / "data")
    assert (settings.seed_dir, settings.models_dirs) == (tmp_path / "seed", [Path("/m"), tmp_path / "n"])


def test_misspelt_variable_is_warned_about() -> None:
    loaded = load_settings({}, {"VERTEX_EMULATOR_WORKER": "3"})
    assert loaded.warnings == (
        "VERTEX_EMULATOR_WORKER is not a setting; did you mean VERTEX_EMULATOR_WORKERS.",
    )


@pytest.mark.parametrize(
    ("environ", "flags", "expected"),
    [
        ({}, {}, ("local", "default")),
        ({"STORAGE_EMULATOR_HOST": "http://gcs:4443"}, {}, ("http://gcs:4443", "STORAGE_EMULATOR_HOST")),
        (
            {"STORAGE_EMULATOR_HOST": "http://gcs:4443", "VERTEX_EMULATOR_GCS_ENDPOINT": "local"},
            {},
            ("local", "VERTEX_EMULATOR_GCS_ENDPOINT"),
        ),
        (
            {"STORAGE_EMULATOR_HOST": "http://gcs:4443"},
            {"gcs_endpoint": "http://other:1"},
            ("http://other:1", "--gcs-endpoint"),
        ),
        (
            {"STORAGE_EMULATOR_HOST": "http://x:8080", "VERTEX_EMULATOR_CLIENT_OF": "http://x:8080"},
            {},
            ("local", "default"),
        ),
        (
            {"STORAGE_EMULATOR_HOST": "http://gcs:4443", "VERTEX_EMULATOR_CLIENT_OF": "http://x:8080"},
            {},
            ("http://gcs:4443", "STORAGE_EMULATOR_HOST"),
        ),
    ],
)
def test_storage_endpoint_of_the_environment_is_the_weakest_word(
    environ: dict[str, str], flags: dict[str, object], expected: tuple[str, str]
) -> None:
    loaded = load_settings(flags, environ)
    assert (loaded.settings.gcs_endpoint, loaded.sources["gcs_endpoint"]) == expected
    assert loaded.warnings == ()


def test_configuration_file_wins_over_the_clients_variable(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('gcs_endpoint = "local"\n[gcs_buckets]\n"videos-*" = "http://gcs:4443"\n')
    settings = load_settings({}, {"STORAGE_EMULATOR_HOST": "http://gcs:1"}, config).settings
    assert (settings.gcs_endpoint, settings.gcs_buckets) == ("local", {"videos-*": "http://gcs:4443"})
