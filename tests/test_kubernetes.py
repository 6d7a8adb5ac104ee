"""The Kubernetes manifests hold together: what they name is there, and what must be one is one.

No cluster and no schema is needed; where kubectl is installed, it puts them together once.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pypmi.config.load import load_fleet
from stack import run

FOLDER = Path(__file__).parent.parent / "deploy/kubernetes"
COMPOSE = FOLDER.parent / "docker-compose.yml"
MADE_BY_HAND = {("Secret", "mqtt-passwords"), ("Secret", "ipmi-passwords"), ("Secret", "mosquitto-config")}
"""By the commands of docs/scaling.md."""


def documents() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return [item for name in kustomization["resources"] for item in yaml.safe_load_all((FOLDER / name).read_text())]


def workloads() -> list[dict[str, Any]]:
    return [item for item in documents() if item["kind"] in {"Deployment", "StatefulSet"}]


def spec_of(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


IDS = [workload["metadata"]["name"] for workload in workloads()]


def test_every_file_is_used() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    used = {*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"], "kustomization.yaml"}
    assert used == {path.name for path in FOLDER.iterdir()}


def test_names_are_unique() -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in documents()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("workload", workloads(), ids=IDS)
def test_volumes_are_there(workload: dict[str, Any]) -> None:
    spec = spec_of(workload)
    claims = {item["metadata"]["name"] for item in documents() if item["kind"] == "PersistentVolumeClaim"}
    made = {volume["name"] for volume in spec["volumes"]}
    made |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    for container in spec["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == made
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "secret" in volume:
            assert ("Secret", volume["secret"]["secretName"]) in MADE_BY_HAND
        if "configMap" in volume:
            assert volume["configMap"]["name"] in {"fleet", "broker-ca"}


@pytest.mark.parametrize("workload", workloads(), ids=IDS)
def test_pods_have_no_rights(workload: dict[str, Any]) -> None:
    spec = spec_of(workload)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]


@pytest.mark.parametrize("workload", workloads(), ids=IDS)
def test_there_is_one_of_each_name(workload: dict[str, Any]) -> None:
    assert workload["spec"]["replicas"] == 1
    if workload["kind"] == "Deployment":
        assert workload["spec"]["strategy"] == {"type": "Recreate"}
        name = spec_of(workload)["containers"][0]["args"][1]
        assert name == workload["metadata"]["name"]
        (mqtt,) = (volume for volume in spec_of(workload)["volumes"] if volume["name"] == "mqtt")
        assert [item["key"] for item in mqtt["secret"]["items"]] == [name], "no other service's password"


def test_images_are_those_of_compose() -> None:
    compose = yaml.load(COMPOSE.read_text(), Loader=yaml.BaseLoader)
    known = {service["image"].split(":")[0] for service in compose["services"].values()}
    used = {container["image"].split(":")[0] for item in workloads() for container in spec_of(item)["containers"]}
    assert used <= known


def test_services_select_pods() -> None:
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in workloads()]
    for service in (item for item in documents() if item["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert any(selector <= label.items() for label in labels), service["metadata"]["name"]


def test_gateways_see_the_clients_address() -> None:
    (service,) = (item for item in documents() if item["metadata"]["name"] == "ipmi")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    assert service["spec"]["ports"][0]["protocol"] == "UDP"


def test_example_fleet_loads_and_is_worked() -> None:
    loaded = load_fleet(FOLDER / "fleet.yaml")
    assert not loaded.warnings
    names = {workload["metadata"]["name"] for workload in workloads()}
    assert {node.agent_name for node in loaded.fleet.nodes} <= names
    assert {node.console.relay for node in loaded.fleet.nodes if node.console} <= names


def test_kubectl_puts_them_together() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:  # the other tests hold without it
        assert documents()
        return
    done = run(kubectl, "kustomize", str(FOLDER))
    assert done.code == 0, done.text
    assert {"Namespace", "ConfigMap", "Deployment"} <= {item["kind"] for item in yaml.safe_load_all(done.out)}
