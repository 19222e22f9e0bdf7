"""Settings that contradict, are misspelt, cannot be meant, or come from where nobody looks."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.config import SETTINGS, Config, ConfigError, Listener, Origins, load, plain


def loaded(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[Config, Origins]:
    return load(flags or {}, environ or {}, file, host_name=lambda: "walrus.example")


def refusal(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environ, file)
    return str(caught.value)


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "walrus.toml"
    file.write_text(text)
    return file


def test_nothing_given_is_one_node_on_loopback() -> None:
    config, origins = loaded()
    assert (config.node_id, config.client_port, config.kafka_port) == (1, 8080, 9092)
    assert (config.raft_port, config.admin_port) == (6000, 9644)
    assert config.fsync == "each"
    assert config.max_segment_entries == 1_000_000
    assert config.kafka_listeners == (Listener("PLAINTEXT", "127.0.0.1", 9092, "127.0.0.1", 0),)
    assert {str(origins[setting.name]) for setting in SETTINGS} == {"default"}
    assert origins.warnings == ()


def test_flags_beat_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, "node_id = 2\nkafka_port = 2\nclient_port = 2\nadmin_port = 4")
    config, origins = loaded(
        {"kafka_port": "1"}, {"WALRUS_KAFKA_PORT": "3", "WALRUS_CLIENT_PORT": "3"}, file
    )
    assert (config.kafka_port, config.client_port, config.node_id) == (1, 3, 2)
    assert str(origins["kafka_port"]) == "--kafka-port"
    assert str(origins["client_port"]) == "WALRUS_CLIENT_PORT"
    assert str(origins["node_id"]) == str(file)
    assert str(origins["raft_port"]) == "default"


def test_a_misspelt_variable_is_named_with_the_nearest() -> None:
    text = refusal(environ={"WALRUS_KAFKA_PRT": "9092"})
    assert "WALRUS_KAFKA_PRT" in text
    assert "did you mean WALRUS_KAFKA_PORT?" in text


def test_a_misspelt_key_is_named_with_file_and_nearest(tmp_path: Path) -> None:
    file = toml(tmp_path, "max_segment_byte = 1")
    text = refusal(file=file)
    assert str(file) in text
    assert "'max_segment_byte'" in text
    assert "did you mean max_segment_bytes?" in text


def test_a_key_like_no_other_says_where_to_look() -> None:
    assert "walrus config print" in refusal(environ={"WALRUS_QQQQQ": "1"})


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    file = toml(tmp_path, "colour = 'red'\nadmin_port = 'red'")
    text = refusal({"node_id": "0"}, {"WALRUS_FSYNC": "often", "WALRUS_COLOUR": "red"}, file)
    assert len(text.splitlines()) == 5
    for name in ("colour", f"{file}: admin_port", "--node-id", "WALRUS_FSYNC", "WALRUS_COLOUR"):
        assert name in text


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    text = refusal(file=toml(tmp_path, "node_id = 1\nkafka_port 9092"))
    assert "walrus.toml" in text
    assert "line 2" in text


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    assert "nowhere.toml: cannot be read" in refusal(file=tmp_path / "nowhere.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "binary.toml: is not TOML" in refusal(file=binary)


@pytest.mark.parametrize(
    ("name", "raw", "valid"),
    [
        ("kafka_port", "65536", "0 to 65535"),
        ("kafka_port", "-1", "0 to 65535"),
        ("kafka_port", "http", "0 to 65535"),
        ("kafka_port", "", "0 to 65535"),
        ("kafka_port", "9" * 5000, "0 to 65535"),
        ("node_id", "0", "1 to 2147483647"),
        ("max_segment_entries", "0", "1 to"),
        ("monitor_check_ms", "9", "10 to"),
        ("max_segment_bytes", "64 MB", "KiB, MiB and GiB"),
        ("max_segment_bytes", "3", "4096 to"),
        ("fsync", "0", "each, none"),
        ("fsync", "1.5", "each, none"),
        ("fsync", "always", "each, none"),
        ("fsync", "60001", "60000"),
        ("disable_io_uring", "maybe", "true"),
        ("auto_create_topics", "", "true"),
        ("log_level", "loud", "debug, info, warning, error"),
        ("log_format", "xml", "auto, console, json"),
        ("client_host", "", "a host name"),
        ("client_host", "a b", "a host name"),
        ("data_dir", "", "a path"),
        ("join", "10.0.0.1", "HOST:PORT"),
        ("join", "10.0.0.1:0", "port 0"),
        ("join", "::1:6000", "[::1]:9092"),
        ("kafka_advertise", "broker", "HOST:PORT"),
        ("kafka_advertise", "0.0.0.0:9092", "nobody can dial it"),
        ("kafka_advertise", "[::]:9092", "nobody can dial it"),
        ("raft_advertise_host", "0.0.0.0", "nobody can dial it"),
        ("kafka_listener", "127.0.0.1:9092", "NAME://"),
        ("kafka_listener", "a://127.0.0.1:9092", "capitals"),
        ("kafka_listener", "A://127.0.0.1", "NAME://"),
        ("kafka_listener", "A://127.0.0.1:1=0.0.0.0:2", "nobody can dial it"),
        ("kafka_listener", "A://127.0.0.1:1,A://127.0.0.1:2", "two listeners are named A"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(name: str, raw: str, valid: str) -> None:
    variable = f"WALRUS_{name.upper()}"
    text = refusal(environ={variable: raw})
    assert variable in text
    assert name in text
    assert valid in text


@pytest.mark.parametrize(
    "line",
    [
        "kafka_port = true",
        "kafka_port = 90.92",
        "kafka_port = [1]",
        "disable_io_uring = 2",
        "data_dir = 7",
        "join = 7",
        "kafka_port = {a = 1}",
        "max_segment_bytes = false",
        "fsync = true",
        "client_host = 1",
    ],
)
def test_a_toml_value_of_another_type_is_refused(tmp_path: Path, line: str) -> None:
    assert f"walrus.toml: {line.split()[0]}" in refusal(file=toml(tmp_path, line))


@pytest.mark.parametrize("raw", ["", "1", "true", "yes", "TRUE"])
def test_disable_io_uring_counts_by_presence(raw: str) -> None:
    assert loaded(environ={"WALRUS_DISABLE_IO_URING": raw})[0].disable_io_uring is True


@pytest.mark.parametrize("raw", ["0", "false", "no"])
def test_disable_io_uring_can_be_denied(raw: str) -> None:
    assert loaded(environ={"WALRUS_DISABLE_IO_URING": raw})[0].disable_io_uring is False


def test_sizes_take_units() -> None:
    config, _ = loaded({"max_segment_bytes": "64MiB"}, {"WALRUS_FETCH_SIZE_MAX": "1_048_576"})
    assert config.max_segment_bytes == 64 * 2**20
    assert config.fetch_size_max == 2**20


@pytest.mark.parametrize(("raw", "fsync"), [("each", "each"), ("NONE", "none"), ("050", "50")])
def test_fsync_takes_words_and_milliseconds(raw: str, fsync: str) -> None:
    assert loaded({"fsync": raw})[0].fsync == fsync


def test_a_wildcard_with_nothing_advertised_advertises_the_host_name_and_warns() -> None:
    config, origins = loaded({"kafka_host": "0.0.0.0"})
    (listener,) = config.kafka_listeners
    assert (listener.bind_host, listener.advertised_host) == ("0.0.0.0", "walrus.example")
    (warning,) = origins.warnings
    assert "walrus.example" in warning
    assert "kafka_advertise" in warning


def test_an_advertised_address_silences_the_warning() -> None:
    config, origins = loaded({"kafka_host": "0.0.0.0", "kafka_advertise": "broker1:19092"})
    (listener,) = config.kafka_listeners
    assert (listener.advertised_host, listener.advertised_port) == ("broker1", 19092)
    assert origins.warnings == ()


def test_listeners_advertise_each_for_itself(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        'kafka_listener = ["INTERNAL://127.0.0.1:1=10.0.0.1:2", "OUTER://[::]:3", "V6://[::1]:4"]',
    )
    config, origins = loaded(file=file)
    assert config.kafka_listeners == (
        Listener("INTERNAL", "127.0.0.1", 1, "10.0.0.1", 2),
        Listener("OUTER", "::", 3, "walrus.example", 0),
        Listener("V6", "::1", 4, "::1", 0),
    )
    assert "OUTER" in origins.warnings[0]
    assert len(origins.warnings) == 1


def test_a_free_port_is_advertised_once_it_is_known() -> None:
    (listener,) = loaded({"kafka_port": "0"})[0].kafka_listeners
    bound = listener.bound_to(41234)
    assert (bound.bind_port, bound.advertised_port) == (41234, 41234)
    pinned = Listener("A", "127.0.0.1", 0, "outside", 9092).bound_to(41234)
    assert (pinned.bind_port, pinned.advertised_port) == (41234, 9092)


def test_named_listeners_and_the_one_listener_exclude_each_other() -> None:
    text = refusal({"kafka_listener": ("A://127.0.0.1:1",)}, {"WALRUS_KAFKA_PORT": "2"})
    assert "WALRUS_KAFKA_PORT" in text
    assert "--kafka-listener" in text


def test_one_port_for_two_protocols_is_refused() -> None:
    text = refusal({"client_port": "9092"})
    assert "client_port (--client-port)" in text
    assert "kafka_port (default)" in text
    assert "9092" in text


def test_one_port_on_two_addresses_is_fine() -> None:
    loaded({"client_port": "9092", "client_host": "127.0.0.2"})
    loaded({"client_port": "0", "kafka_port": "0", "admin_port": "0", "raft_port": "0"})
    assert "9092" in refusal({"client_port": "9092", "client_host": "0.0.0.0"})


def test_a_request_larger_than_the_budget_is_refused() -> None:
    text = refusal({"request_size_max": "300MiB"})
    assert "request_size_max (--request-size-max)" in text


def test_variables_of_other_programs_are_left_alone() -> None:
    loaded(environ={"WALRUS_ADDR": "127.0.0.1:8080", "PATH": "/bin", "KAFKA_PORT": "x"})


def test_what_kubernetes_adds_for_a_service_is_no_setting() -> None:
    loaded(
        environ={
            "WALRUS_SERVICE_HOST": "10.0.0.1",
            "WALRUS_SERVICE_PORT": "9092",
            "WALRUS_SERVICE_PORT_KAFKA": "9092",
            "WALRUS_PORT": "tcp://10.0.0.1:9092",
            "WALRUS_PORT_9092_TCP": "tcp://10.0.0.1:9092",
            "WALRUS_PORT_9092_TCP_ADDR": "10.0.0.1",
        }
    )


def test_a_kubernetes_service_named_like_a_setting_is_explained() -> None:
    text = refusal(environ={"WALRUS_KAFKA_PORT": "tcp://10.0.0.1:9092"})
    assert "enableServiceLinks" in text


def test_flags_not_given_leave_no_trace() -> None:
    config, origins = loaded({"kafka_port": None, "kafka_listener": ()})
    assert config.kafka_port == 9092
    assert str(origins["kafka_port"]) == "default"


def test_every_value_can_be_shown_and_read_back() -> None:
    config, _ = loaded({"kafka_advertise": "[::1]:1", "join": "a:1,[::2]:3", "fsync": "7"})
    shown = {setting.name: plain(getattr(config, setting.name)) for setting in SETTINGS}
    assert json.loads(json.dumps(shown)) == shown
    again, _ = loaded({name: tuple(v) if isinstance(v, list) else v for name, v in shown.items()})
    assert again == config
