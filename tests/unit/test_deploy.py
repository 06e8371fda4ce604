"""The files for deployments name options, ports, paths and times that fit the program and each other."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastq.cli.worker import command

FOLDER = Path(__file__).parents[2] / "docs" / "operate" / "deploy"


def options(words: list[str]) -> dict[str, Any]:
    """The options behind the word `worker`, read as the command line reads them."""
    where = words.index("worker")
    context = command.make_context("worker", [*words[where + 1 :]])
    assert not context.args, f"unknown: {context.args}"
    return context.params


def systemd() -> dict[str, str]:
    lines = (FOLDER / "fastq.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def docker(instruction: str) -> list[str]:
    found = re.search(rf"^{instruction}(\[.*\])$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    words: list[str] = json.loads(found[1])
    return words


def container() -> dict[str, Any]:
    manifest = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def test_systemd_waits_longer_than_the_worker() -> None:
    unit = systemd()
    given = options(shlex.split(unit["ExecStart"]))
    assert float(unit["TimeoutStopSec"]) > float(given["shutdown_timeout"])
    assert unit["KillMode"] == "mixed"
    assert unit["RestartPreventExitStatus"] == "2 73"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (FOLDER / "fastq.service").read_text().replace("/srv/proj/.venv/bin/fastq", "/bin/true")
    (tmp_path / "fastq.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "fastq.service")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "fastq.service" not in done.stderr, done.stderr


def test_supervisor_waits_longer_than_the_worker() -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(FOLDER / "supervisord.conf")
    program = dict(parser["program:fastq"])
    given = options(shlex.split(program["command"]))
    assert float(program["stopwaitsecs"]) > float(given["shutdown_timeout"])
    assert program["exitcodes"] == "0,2,73"


def test_docker_starts_a_worker_and_asks_it() -> None:
    assert options(docker("CMD "))["http"]
    assert docker("HEALTHCHECK .* CMD ") == ["fastq", "ping"]


def test_kubernetes_probes_the_port_that_the_worker_serves() -> None:
    pod = container()
    (worker,) = pod["containers"]
    given = options(worker["args"])
    port = int(given["http"].rpartition(":")[2])
    assert {each["name"]: each["containerPort"] for each in worker["ports"]} == {"http": port}
    paths = {kind: worker[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}
    assert pod["terminationGracePeriodSeconds"] > float(given["shutdown_timeout"])


def test_keda_scales_the_deployment_by_a_metric_that_there_is() -> None:
    service, scaled = yaml.safe_load_all((FOLDER / "keda.yaml").read_text())
    deployment = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    (trigger,) = scaled["spec"]["triggers"]
    assert service["metadata"]["name"] in trigger["metadata"]["url"]
    metric = trigger["metadata"]["valueLocation"].partition("{")[0]
    assert f"| `{metric}` | queue |" in (FOLDER.parent / "probes-and-metrics.md").read_text()
