"""Does every marked command block of the README do what it says?"""

import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from perturbfm.config import compose_config

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (run|compose) -->\n```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())
RUN = [(language, code) for mark, language, code in BLOCKS if mark == "run"]
COMPOSE = [
    line
    for mark, _, code in BLOCKS
    if mark == "compose"
    for line in code.replace("\\\n", " ").splitlines()
    if line.strip()
]


def test_readme_has_marked_blocks():
    assert len(RUN) >= 3
    assert len(COMPOSE) >= 3


@pytest.mark.parametrize(("language", "code"), RUN, ids=[c.strip().splitlines()[0][:40] for _, c in RUN])
def test_block_runs_as_a_user_would_run_it(language, code, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PERTURBFM")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "outputs").glob("*/metrics.json"))


@pytest.mark.parametrize("line", COMPOSE)
def test_long_command_composes(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line.split("#")[0])
    assert words[:3] == ["python", "-m", "perturbfm.run"]
    overrides = [w for w in words[3:] if w not in ("-m", "--multirun")]
    choices = [[f"{k}={v}" for v in values.split(",")] for k, _, values in (o.partition("=") for o in overrides)]
    for combination in product(*choices):
        assert compose_config(list(combination)).split.hash
