"""Image size, start-up time and idle memory of each service, as a Markdown table. For tests/e2e_docker.sh."""

import argparse
import json
import subprocess
from datetime import datetime


def docker(*arguments: str) -> str:
    """Output of a docker command."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S603, S607


def main() -> None:
    """Print the table for the containers of a Compose project that is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True)
    parser.add_argument("--tag", required=True)
    options = parser.parse_args()
    ids = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={options.project}").split()
    print("| service | image | ready after | idle memory |")  # noqa: T201
    print("|---|---|---|---|")  # noqa: T201
    for info in sorted(json.loads(docker("inspect", *ids)), key=lambda item: item["Name"]):
        name = info["Config"]["Labels"]["com.docker.compose.service"]
        size = int(docker("image", "inspect", "-f", "{{.Size}}", info["Image"])) / 1e6
        memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", info["Id"]).split("/")[0].strip()
        print(f"| {name} | {size:.0f} MB | {_ready_after(info)} | {memory} |")  # noqa: T201


def _ready_after(info: dict) -> str:
    """Seconds from the container's start to its first healthy check."""
    started = datetime.fromisoformat(info["State"]["StartedAt"][:26] + "+00:00")
    for check in info["State"].get("Health", {}).get("Log", []):
        ended = datetime.fromisoformat(check["End"][:26] + "+00:00")
        if check["ExitCode"] == 0 and ended > started:  # earlier ones are of a run before
            return f"≤ {(ended - started).total_seconds():.0f} s"
    return "–"


if __name__ == "__main__":
    main()
