"""Image size, start-up time and idle memory of each service, as a Markdown table. For tests/e2e_docker.sh."""

import argparse
import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
PATIENCE = 60
"""Seconds for a container to get ready."""


def docker(*arguments: str) -> str:
    """Output of a docker command."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S603, S607


def main() -> None:
    """Write the table for the containers of a Compose project that is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True)
    parser.add_argument("--into", required=True, type=Path, help="Markdown file with a place for it, between the marks")
    options = parser.parse_args()
    text = options.into.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{options.into} has no place for the table: a line {BEGIN}, and a line {END}")
    options.into.write_text(f"{before}{BEGIN}\n{table(options.project)}{END}{after}")


def table(project: str) -> str:
    """One row for each container."""
    ids = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={project}").split()
    rows = ["| service | image | ready after | idle memory |", "|---|---|---|---|"]
    for info in sorted(json.loads(docker("inspect", *ids)), key=lambda item: str(item["Name"])):
        name = info["Config"]["Labels"]["com.docker.compose.service"]
        size = int(docker("image", "inspect", "-f", "{{.Size}}", info["Image"])) / 1e6
        memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", info["Id"]).split("/")[0].strip()
        rows.append(f"| {name} | {size:.0f} MB | {_ready_after(info)} | {memory} |")
    return "\n".join(rows) + "\n"


def _ready_after(info: dict) -> str:
    """Seconds from a container's start to its health check's first success: restarts it, and asks all the time."""
    test = info["Config"].get("Healthcheck", {}).get("Test", ["NONE"])
    if test[0] not in {"CMD", "CMD-SHELL"}:
        return "–"
    check = test[1:] if test[0] == "CMD" else ["sh", "-c", test[1]]
    docker("restart", info["Id"])
    started = datetime.fromisoformat(docker("inspect", "-f", "{{.State.StartedAt}}", info["Id"])[:26] + "+00:00")
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["docker", "exec", info["Id"], *check], capture_output=True, check=False).returncode:  # noqa: S603, S607
        if time.monotonic() > deadline:
            return f"> {PATIENCE} s"
    return f"{(datetime.now(UTC) - started).total_seconds():.1f} s"


if __name__ == "__main__":
    main()
