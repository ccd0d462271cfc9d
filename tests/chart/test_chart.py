"""Promises of the chart: it renders, fits real clusters, is restricted, refuses the impossible."""

import asyncio
import json
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from feedback_svc.settings import FeedbackSettings
from inference_svc.settings import InferenceSettings
from memory_svc.settings import MemorySettings
from selm.durability import check_sync
from selm.settings import SERVICES, SharedSettings, check_environment
from selm.testing import eventually, free_port
from tests.chart.renderers import CHART, ROOT, Renderer, RenderError, find_renderer, load_manifests
from trainer_svc.settings import TrainerSettings

VERSIONS = ("1.33", "1.34", "1.35")
VALUES_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
SETTINGS = {
    "inference": InferenceSettings,
    "memory": MemorySettings,
    "feedback": FeedbackSettings,
    "trainer": TrainerSettings,
}
GRPC_PORTS = dict(zip(SERVICES, (50051, 50052, 50053, 50054), strict=True))


@pytest.fixture(scope="module")
def helm() -> Renderer:
    return find_renderer()


@pytest.fixture(scope="module", params=[None, *VALUES_FILES], ids=lambda p: p.stem if p else "")
def manifests(helm: Renderer, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The chart rendered with its defaults and with each scenario of helm/ci."""
    values = yaml.safe_load(request.param.read_text()) if request.param else {}
    return load_manifests(helm.render(values))


@pytest.fixture(scope="module")
def defaults(helm: Renderer) -> list[dict[str, Any]]:
    return load_manifests(helm.render({}))


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod spec, with the name of what it belongs to."""
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Pod":
            yield name, manifest["spec"]
        elif manifest["kind"] in ("Deployment", "StatefulSet"):
            yield name, manifest["spec"]["template"]["spec"]


def containers(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name}/{container['name']}", container


def service_container(manifests: list[dict[str, Any]], service: str) -> dict[str, Any]:
    return next(c for name, c in containers(manifests) if name.endswith(f"-{service}/{service}"))


def named(manifests: list[dict[str, Any]], kind: str, ending: str) -> dict[str, Any]:
    return next(
        m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(ending)
    )


def test_chart_lints(helm: Renderer) -> None:
    """helm lint --strict has nothing to say."""
    assert helm.lint() == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_kubernetes(manifests: list[dict[str, Any]], version: str) -> None:
    """Every manifest passes the strict schema of the release: no misspelled field."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_pods_are_restricted(manifests: list[dict[str, Any]]) -> None:
    """Every pod passes the restricted Pod Security Standard and holds no API token."""
    for name, pod in pods(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
    for name, container in containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_images_name_a_version(manifests: list[dict[str, Any]]) -> None:
    """No image floats."""
    for name, container in containers(manifests):
        assert not container["image"].endswith(":latest"), name
        assert ":" in container["image"].rsplit("/", 1)[-1], name


def test_containers_state_what_they_need(manifests: list[dict[str, Any]]) -> None:
    """Requests and a memory limit everywhere, so no pod can take a node down."""
    for name, container in containers(manifests):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("service", SERVICES)
def test_services_are_probed_over_grpc(manifests: list[dict[str, Any]], service: str) -> None:
    """Liveness asks selm.live, so a lost dependency restarts nothing; readiness asks for all."""
    container = service_container(manifests, service)
    port = GRPC_PORTS[service]

    assert container["startupProbe"]["grpc"] == {"port": port, "service": "selm.live"}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": "selm.live"}
    assert container["readinessProbe"]["grpc"] == {"port": port, "service": ""}
    assert port in {entry["containerPort"] for entry in container["ports"]}


@pytest.mark.parametrize("service", SERVICES)
def test_environment_is_known_to_the_service(
    manifests: list[dict[str, Any]], service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service starts with what the chart tells it: each name known, each value valid."""
    monkeypatch.chdir(tmp_path)  # no .env of ours
    for entry in service_container(manifests, service)["env"]:
        if entry["name"].startswith("SELM_"):
            monkeypatch.setenv(entry["name"], entry.get("value", "from-elsewhere"))

    check_environment(SETTINGS[service])
    settings = SETTINGS[service]()

    assert settings.host == "0.0.0.0"
    assert settings.port == GRPC_PORTS[service]
    assert settings.shared.allow_insecure
    assert settings.shared.log_format == "json"


def test_links_of_services_do_not_become_settings(manifests: list[dict[str, Any]]) -> None:
    """Kubernetes would set SELM_INFERENCE_PORT=tcp://... for a Service named selm-inference."""
    for name, pod in pods(manifests):
        assert pod["enableServiceLinks"] is False, name


def test_targets_are_services_of_the_release(manifests: list[dict[str, Any]]) -> None:
    """Every service finds the others by names and ports that exist."""
    ports = {
        (m["metadata"]["name"], port["port"])
        for m in manifests
        if m["kind"] == "Service"
        for port in m["spec"]["ports"]
    }
    for name, container in containers(manifests):
        for entry in container.get("env", []):
            if entry["name"].endswith("_TARGET"):
                host, port = entry["value"].removeprefix("dns:///").split(":")
                assert (host, int(port)) in ports, name


def test_selectors_find_their_pods(manifests: list[dict[str, Any]]) -> None:
    """Services and disruption budgets select the pods of one component each, and some."""
    labels = [
        m["spec"]["template"]["metadata"]["labels"]
        for m in manifests
        if m["kind"] in ("Deployment", "StatefulSet")
    ]
    for manifest in manifests:
        if manifest["kind"] not in ("Service", "PodDisruptionBudget"):
            continue
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        found = [label for label in labels if wanted <= label.items()]
        assert len(found) == 1, manifest["metadata"]["name"]


def test_selectors_hold_nothing_that_changes(defaults: list[dict[str, Any]]) -> None:
    """Selectors are immutable, so a new version must not appear in them."""
    for manifest in defaults:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert set(manifest["spec"]["selector"]["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
            }


def test_every_resource_is_labelled(manifests: list[dict[str, Any]]) -> None:
    """The common labels stand everywhere; only the claims of the StatefulSet go without."""
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "selm"
        assert "helm.sh/chart" in labels


def test_default_install_brings_nats_and_milvus_lite(defaults: list[dict[str, Any]]) -> None:
    """A laptop needs nothing else: one nats-server, and Milvus Lite that only memory can reach."""
    memory = named(defaults, "Deployment", "-memory")["spec"]
    lite = next(c for n, c in containers(defaults) if n.endswith("/milvus-lite"))

    assert named(defaults, "StatefulSet", "-nats")["spec"]["replicas"] == 1
    assert memory["strategy"] == {"type": "Recreate"}
    assert lite["command"][lite["command"].index("--host") + 1] == "127.0.0.1"


def test_nats_takes_its_configuration(defaults: list[dict[str, Any]], tmp_path: Path) -> None:
    """The real nats-server accepts the rendered file, and every write is synced."""
    text = named(defaults, "ConfigMap", "-nats")["data"]["nats-server.conf"]
    file = tmp_path / "nats-server.conf"
    file.write_text(text.replace("/data", str(tmp_path / "data")))
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    done = subprocess.run([binary, "-t", "-c", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "sync_interval: always" in text


async def test_nats_of_the_chart_says_that_it_syncs(
    defaults: list[dict[str, Any]], tmp_path: Path
) -> None:
    """T-13: started with the rendered file, its monitor tells what the services ask it."""
    text = named(defaults, "ConfigMap", "-nats")["data"]["nats-server.conf"]
    port, monitor_port = free_port(), free_port()
    text = text.replace("/data", str(tmp_path / "data"))
    text = text.replace("http_port: 8222", f"http_port: {monitor_port}")
    text = text.replace("port: 4222", f"port: {port}")
    file = tmp_path / "nats-server.conf"
    file.write_text(text)
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    server = await asyncio.create_subprocess_exec(
        binary, "-c", file, stderr=asyncio.subprocess.DEVNULL
    )

    async def passes() -> bool:
        return (await check_sync(f"http://127.0.0.1:{monitor_port}")).passed

    try:
        await eventually(passes)
    finally:
        server.kill()
        await server.wait()


def test_services_know_the_monitor_of_the_bundled_nats_only(
    helm: Renderer, defaults: list[dict[str, Any]]
) -> None:
    """With it they tell whether an acknowledged write is on disk; another's may be closed."""
    values = yaml.safe_load((CHART / "ci" / "external-values.yaml").read_text())
    external = load_manifests(helm.render(values))
    bundled = {e["name"]: e for e in service_container(defaults, "feedback")["env"]}
    own = {e["name"] for e in service_container(external, "feedback")["env"]}

    assert bundled["SELM_NATS_MONITOR_URL"]["value"].endswith("-nats:8222")
    assert "SELM_NATS_MONITOR_URL" not in own


def test_own_nats_and_milvus_replace_the_bundled_ones(helm: Renderer) -> None:
    """With addresses given, nothing of ours runs in their place and secrets are referenced."""
    values = yaml.safe_load((CHART / "ci" / "external-values.yaml").read_text())
    rendered = load_manifests(helm.render(values))
    env = {e["name"]: e for e in service_container(rendered, "memory")["env"]}

    assert not [m for m in rendered if m["kind"] == "StatefulSet"]
    assert not [name for name, _ in containers(rendered) if name.endswith("/milvus-lite")]
    assert env["SELM_NATS_URL"]["value"] == "nats://nats.messaging:4222"
    assert env["SELM_MEMORY_MILVUS_URI"]["value"] == "http://milvus.vectors:19530"
    assert env["SELM_NATS_PASSWORD"]["valueFrom"]["secretKeyRef"] == {
        "name": "selm-nats",
        "key": "password",
    }
    assert env["SELM_MEMORY_MILVUS_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "selm-milvus"


def test_strangers_are_kept_out(defaults: list[dict[str, Any]]) -> None:
    """While authentication is off, only the release's pods and labelled clients reach gRPC."""
    policy = named(defaults, "NetworkPolicy", "selm")["spec"]
    own, clients = policy["ingress"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert set(own["from"][0]) == {"podSelector"}
    assert clients["from"] == [{"podSelector": {"matchLabels": {"selm-client": "true"}}}]
    assert {entry["port"] for entry in clients["ports"]} == set(GRPC_PORTS.values())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"inference": {"replicas": "three"}}, "got string, want integer"),
        ({"inferense": {}}, "additional properties 'inferense' not allowed"),
        ({"trainer": {"resorces": {}}}, "additional properties 'resorces' not allowed"),
        ({"memory": {"env": {"SELM_MEMROY_X": "1"}}}, "SELM_MEMROY_X"),
        ({"settings": {"logLevel": "LOUD"}}, "/settings/logLevel"),
        ({"milvus": {"uri": "http://user:secret@milvus"}}, "/milvus/uri"),
        ({"image": {"tag": "latest"}}, "image.tag: latest is not a version"),
        ({"memory": {"replicas": 2}}, "for memory set milvus.uri"),
        ({"settings": {"graceSeconds": 60}}, "terminationGracePeriodSeconds must be at least"),
        ({"nats": {"existingSecret": "mine"}}, "set nats.url too"),
    ],
)
def test_wrong_values_are_refused_clearly(
    helm: Renderer, values: dict[str, Any], complaint: str
) -> None:
    """A typo or an impossible wish fails before anything is installed, and says what is wrong."""
    with pytest.raises(RenderError) as caught:
        helm.render(values)

    assert complaint in str(caught.value)


def test_default_values_fit_their_schema() -> None:
    """values.yaml is itself valid, and the schema names every value in it and no other."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    jsonschema.Draft202012Validator(schema).validate(values)
    assert set(schema["properties"]) == set(values)
    for name, part in schema["properties"].items():
        if isinstance(values[name], dict):
            assert set(part["properties"]) == set(values[name]), name


def test_app_version_is_the_version_of_selm() -> None:
    """The default image tag is the release that the chart ships with."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    namespace: dict[str, str] = {}
    exec((ROOT / "selm" / "__init__.py").read_text(), namespace)

    assert chart["appVersion"] == namespace["__version__"]


def test_shared_settings_of_the_chart_exist() -> None:
    """What the chart's settings are called after is still there."""
    assert {"drain_delay_s", "grace_s", "allow_insecure", "artifacts_uri", "page_key"} <= set(
        SharedSettings.model_fields
    )
