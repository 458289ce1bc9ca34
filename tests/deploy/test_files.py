"""deploy/: the tool of each file accepts it. No engine is needed to run it."""

import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from flask import Flask

from apps.about import ROOT
from apps.config import settings
from tests.support import live, programs

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def check(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a tool that must succeed, and return its output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def test_the_dockerfile_is_well_made() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("no hadolint here")
    check(hadolint, DEPLOY / "Dockerfile")


@pytest.mark.stores("postgresql")
def test_the_image_holds_all_that_the_service_needs(app: Flask, tmp_path: Path) -> None:
    """The files of COPY, and nothing else, are enough to migrate and serve. Both write nothing into the folder."""
    for sources in re.findall(r"^COPY (?!--from|requirements)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M):
        for name in sources.split():
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tmp_path / name)
    environment = {
        "GATEHOUSE_PROFILE": "production",
        "DATABASE_URL": settings(app).DATABASE_URL,
        "REDIS_URL": settings(app).REDIS_URL,
        "GATEHOUSE_JWT_SECRET_KEY": secrets.token_urlsafe(32),
        "GATEHOUSE_FIELD_ENCRYPTION_KEYS": f'["{secrets.token_urlsafe(32)}"]',
        "GATEHOUSE_FIELD_INDEX_KEY": secrets.token_urlsafe(32),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = listing(tmp_path)
    check_in_image(tmp_path, environment, "db", "upgrade")
    port = live.free_port()
    command = [sys.executable, "manage.py", "serve", f"--port={port}", "--workers=2"]
    with (tmp_path.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=live.unconfigured() | environment, stdout=log, stderr=log)
    try:
        live.wait_until_ready(live.Live("", process, tmp_path.parent), port)
    finally:
        live.stop(process)
    assert listing(tmp_path) == before


def check_in_image(folder: Path, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=folder, env=live.unconfigured() | environment, check=True, capture_output=True)


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_image_leaves_out_what_it_does_not_copy() -> None:
    """S1: no secret of a developer's machine gets into the build."""
    copied = {
        name
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
        for name in sources.split()
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "*" in lines


@pytest.fixture
def compose(tmp_path: Path) -> dict[str, Any]:
    """The compose file as parsed by docker-compose, with the files that the operator adds beside it."""
    program = programs.skip_unless_installed("docker-compose")
    folder = shutil.copytree(DEPLOY, tmp_path / "deploy")
    (folder / "gatehouse.env.example").rename(folder / "gatehouse.env")
    (folder / "database_password.txt").write_text("a password")
    read: dict[str, Any] = yaml.safe_load(check(program, "-f", "compose.yaml", "config", cwd=folder))
    return read


def test_the_compose_file_shows_nginx_alone_to_the_world(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert compose["networks"]["stores"]["internal"] is True
    assert set(services["database"]["networks"]) == set(services["cache"]["networks"]) == {"stores"}


def test_the_compose_file_migrates_before_it_serves(compose: dict[str, Any]) -> None:
    service = compose["services"]["gatehouse"]
    assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_takes_the_manifest(path: Path) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, "1.31", strict=True)


def pods() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in KUBERNETES:
        for document in documents(path):
            spec = document.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            if "template" in spec:
                found.append((f"{document['kind']} {document['metadata']['name']}", spec["template"]["spec"]))
    return found


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_every_pod_is_without_rights(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # GATEHOUSE_PORT and similar variables are no settings
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_image_can_be_built_with_what_observes_it() -> None:
    """The build argument of docs/observability.md names a lock that is copied, and that contains requirements.txt."""
    (name,) = re.findall(r"--build-arg REQUIREMENTS=([\w.-]+)", (ROOT / "docs" / "observability.md").read_text())
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG REQUIREMENTS=requirements.txt$", dockerfile, re.M)
    assert name in re.findall(r"^COPY (requirements.*) \./$", dockerfile, re.M)[0].split()
    pins = [set(re.findall(r"^[\w.-]+==\S+", (ROOT / lock).read_text(), re.M)) for lock in (name, "requirements.txt")]
    assert pins[0] > pins[1]


def test_the_pods_are_reached_by_the_ingress_and_by_prometheus_alone() -> None:
    (policy,) = (d for d in documents(DEPLOY / "kubernetes" / "gatehouse.yaml") if d["kind"] == "NetworkPolicy")
    sources = [source for rule in policy["spec"]["ingress"] for source in rule["from"]]
    names = [source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for source in sources]
    assert names == ["ingress-nginx", "monitoring"]


@pytest.mark.stores("sqlite")
def test_the_probes_are_those_of_the_service(app: Flask) -> None:
    """V2: liveness queries no store."""
    (deployment,) = (d for d in documents(DEPLOY / "kubernetes" / "gatehouse.yaml") if d["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert {"/healthz", "/readyz"} <= rules


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = programs.skip_unless_installed("systemd-analyze")
    units = []
    for path in sorted((DEPLOY / "systemd").iterdir()):
        unit = tmp_path / path.name.replace("@.", "@5000.")
        unit.write_text(path.read_text().replace("/opt/gatehouse/.venv/bin/python", sys.executable))
        units.append(str(unit))
    assert len(units) == 4
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "gatehouse" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.stores("sqlite")
def test_the_env_example_names_settings_that_are(app: Flask) -> None:
    names = re.findall(r"^([A-Z_]+)=", (DEPLOY / "gatehouse.env.example").read_text(), re.M)
    for name in names:
        assert name == "GATEHOUSE_PROFILE" or hasattr(settings(app), name.removeprefix("GATEHOUSE_")), name
