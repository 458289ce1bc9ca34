"""The dashboard, the alerts and their page name only metrics, labels, routes and errors that exist."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from apps import errors
from apps.about import ROOT
from tests.support import metrics, programs
from tests.support.people import People, bearer

DASHBOARD = ROOT / "deploy" / "grafana" / "gatehouse.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DOCS = ROOT / "docs" / "observability.md"

_NAME = re.compile(r"gatehouse_[a-z_]+")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*\\?"([^"\\]*)\\?"')
_OF_PROMETHEUS = {"job", "instance", "alertname", "alertstate"}  # labels that Prometheus adds

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.settings(METRICS_TOKEN=metrics.TOKEN)]


@pytest.fixture
def samples(client: FlaskClient, people: People) -> metrics.Samples:
    """The metrics after a success and an error."""
    people.sign_up()
    client.get("/nowhere")
    return metrics.parse(client.get("/metrics", headers=bearer(metrics.TOKEN)).text)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> Iterator[str]:
    """Yield the PromQL queries of the dashboard."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS, PROMETHEUS / "alerts_test.yml", DOCS], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(samples: metrics.Samples, path: Path) -> None:
    told = {name for name, _ in samples}
    named = set(_NAME.findall(path.read_text()))
    assert named
    assert named - told - {name.removesuffix("_bucket") for name in told} == set()


def test_every_metric_is_on_the_dashboard(samples: metrics.Samples) -> None:
    shown = set(_NAME.findall(" ".join(queries())))
    families = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in samples}
    assert families == {re.sub("_(bucket|count|sum)$", "", name) for name in shown}


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS, PROMETHEUS / "alerts_test.yml"], ids=lambda path: path.name)
def test_every_label_that_is_asked_for_exists(app: Flask, samples: metrics.Samples, path: Path) -> None:
    text = " ".join(queries()) if path == DASHBOARD else path.read_text()
    known: dict[str, set[str]] = {
        "route": {rule.rule for rule in app.url_map.iter_rules()},
        "error": {error.type for error in vars(errors).values() if hasattr(error, "type")} | {""},
        "result": {"hit", "miss"},
        "method": {"GET", "POST"},
    }
    labels = {name for _, having in samples for name, _ in having}
    asked = [
        matcher for matcher in _MATCHER.findall(text) if matcher[0] not in _OF_PROMETHEUS | {"alertname", "alertstate"}
    ]
    assert asked
    for name, operator, value in asked:
        assert name in labels
        values = value.split("|") if "~" in operator else [value]
        assert name not in known or set(values) <= known[name], (name, value)


def test_the_dashboard_can_be_imported() -> None:
    """Its queries use the chosen source and instance, and its panels do not overlap."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert (dashboard["uid"], dashboard["title"]) == ("gatehouse", "Gatehouse")
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "instance"}
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    assert all('instance=~"$instance"' in query for query in queries())
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [cell for panel in panels() for cell in cells_of(**panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def cells_of(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    return [(column, row) for column in range(x, x + w) for row in range(y, y + h)]


def promtool(*arguments: str) -> str:
    program = programs.skip_unless_installed("promtool")
    done = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_configuration_and_the_alerts() -> None:
    assert "is valid" in promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert "10 rules found" in promtool("check", "rules", "--lint-fatal", "alerts.yml")


def test_every_alert_fires_on_a_bad_day_and_none_on_a_quiet_one() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert alerts == re.findall(r'alertname="(\w+)"', (PROMETHEUS / "alerts_test.yml").read_text())
    assert set(alerts) <= set(re.findall(r"Gatehouse\w+", DOCS.read_text()))


def test_prometheus_can_read_what_the_dashboard_asks(tmp_path: Path) -> None:
    """promtool checks rules, but sends a single query to a server; so the queries become rules."""
    plain = [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for query in queries()]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(plain)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
