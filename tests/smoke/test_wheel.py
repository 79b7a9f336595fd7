"""Does the installed wheel carry its configuration and the frozen split, without a top-level `conf`?"""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(out.glob("*.whl"))


def test_wheel_carries_conf_and_splits_inside_the_package(wheel):
    names = ZipFile(wheel).namelist()
    assert "perturbfm/_conf/config.yaml" in names
    assert any(n.startswith("perturbfm/_splits/synthetic-context_ood-") for n in names)
    assert "perturbfm/eval/report/page.html.j2" in names
    entries = {p.name for p in (ROOT / "perturbfm" / "data" / "catalog" / "entry").glob("*.yaml")}
    assert {n.rpartition("/")[2] for n in names if n.startswith("perturbfm/data/catalog/entry/")} == entries
    assert {"perturbfm/data/catalog/preprocessing.yaml", "perturbfm/cli/external.yaml"} <= set(names)
    assert {n.split("/")[0] for n in names} == {"perturbfm", "perturbfm-0.1.0.dist-info"}


def test_default_experiment_runs_from_the_unpacked_wheel_in_any_folder(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    ZipFile(wheel).extractall(site)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PERTURBFM")} | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "perturbfm.run", "eval=quick", "model=global_mean"]
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert str(work / "outputs") in done.stdout.replace("\n", "")
    where = subprocess.run(
        [sys.executable, "-c", "import perturbfm; print(perturbfm.__file__)"],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(site))
