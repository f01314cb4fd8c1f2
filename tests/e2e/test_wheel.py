"""The wheel alone runs the demo: outside the repository, where numba may have to compile first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streamrec.environment import variable_name

REPOSITORY = Path(__file__).parents[2]
EVENTS = 400
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel of this repository."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_the_packages_and_its_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"streamrec", "workers"}
    assert "streamrec/py.typed" in names
    assert {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")} == {
        "local",
        "eval",
        "dev",
    }


def test_the_demo_runs_from_the_wheel(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    events = tmp_path / "events.csv"
    rows = (f"u{n % 40},i{n % 17},click,{1_700_000_000_000 + n * DAY_MS // 100}" for n in range(EVENTS))
    events.write_text("\n".join(("user_id,item_id,event_type,timestamp", *rows)) + "\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(variable_name(""))}
    environment = own | {"PYTHONPATH": str(site)}
    where = "import streamrec, workers; print(streamrec.__file__, workers.__file__)"

    found = subprocess.check_output([sys.executable, "-P", "-c", where], env=environment, cwd=tmp_path, text=True)
    demo = subprocess.run(
        [sys.executable, "-P", "-m", "streamrec", "demo", "--data", str(events), "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert all(file.startswith(str(site)) for file in found.split())
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert json.loads(demo.stdout)["consumed"] == EVENTS
    assert "the first time only" in demo.stderr
