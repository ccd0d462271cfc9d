"""Settings: one source, one line per fault, no silent typo."""

import pytest

from selm.settings import (
    ServiceSettings,
    SettingsError,
    SharedSettings,
    check_environment,
    config,
    load_settings,
)


class MemorySettings(ServiceSettings):
    model_config = config("SELM_MEMORY_")

    port: int = 50052


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SELM_DATA_DIR", "SELM_LOG_FORMAT", "SELM_FAILPOINTS", "SELM_NATS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_a_local_development_stack() -> None:
    """Without any variable, everything points to this machine."""
    settings = load_settings(MemorySettings)

    assert (settings.host, settings.port) == ("127.0.0.1", 50052)
    assert settings.shared.nats_url == "nats://127.0.0.1:4222"
    assert settings.is_loopback


def test_the_environment_reaches_own_and_shared_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """SELM_<SERVICE>_<FIELD> and SELM_<FIELD> are both read."""
    monkeypatch.setenv("SELM_MEMORY_PORT", "1234")
    monkeypatch.setenv("SELM_LOG_LEVEL", "debug")
    settings = load_settings(MemorySettings)

    assert settings.port == 1234
    assert settings.shared.log_level == "DEBUG"


def test_a_misspelled_variable_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A typo must not pass in silence."""
    monkeypatch.setenv("SELM_MEMORY_PROT", "1")
    with pytest.raises(SettingsError) as caught:
        check_environment(MemorySettings)

    assert str(caught.value) == (
        "unknown setting SELM_MEMORY_PROT (did you mean SELM_MEMORY_PORT?)"
    )


def test_a_misspelled_line_of_the_env_file_is_refused_too(tmp_path) -> None:
    """The .env file is read by the same rules as the environment."""
    (tmp_path / ".env").write_text("SELM_GRACE=3\n")
    with pytest.raises(SettingsError, match="SELM_GRACE_S"):
        check_environment(MemorySettings)


def test_variables_of_other_services_and_of_failpoints_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One environment may serve all four processes."""
    monkeypatch.setenv("SELM_TRAINER_ANYTHING", "1")
    monkeypatch.setenv("SELM_INFERENCE_TARGET", "127.0.0.1:1")
    monkeypatch.setenv("SELM_FAILPOINTS", "")
    check_environment(MemorySettings)

    assert SharedSettings().inference_target == "127.0.0.1:1"


def test_a_kubernetes_service_link_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called selm-memory makes Kubernetes inject variables that look like ours."""
    monkeypatch.setenv("SELM_MEMORY_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="enableServiceLinks"):
        check_environment(MemorySettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SELM_MEMORY_PORT", "many"), ("SELM_GRACE_S", "-1"), ("SELM_LOG_LEVEL", "x")],
)
def test_an_invalid_value_is_one_line_naming_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """No traceback, no library words: the variable and what is wrong with it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(MemorySettings)

    assert str(caught.value).startswith(f"invalid settings: {name}: ")
    assert "\n" not in str(caught.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing settings reveals no password."""
    monkeypatch.setenv("SELM_NATS_PASSWORD", "hunter2")

    assert "hunter2" not in repr(load_settings(MemorySettings))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    """Only addresses that no other machine reaches count as loopback."""

    assert MemorySettings(host=host).is_loopback is expected
