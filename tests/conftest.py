"""What all tests share: where real data lies, and that no test writes into the repository."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; a machine without them skips, the pipeline must have them."""
    folder = Path(os.environ.get("PERTURBFM_DATA", _BESIDE)).absolute()
    if not folder.is_dir():
        message = f"no real data in {folder}; set PERTURBFM_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    """Folder of official numbers; a machine without them skips, the pipeline must have them."""
    folder = Path(os.environ.get("PERTURBFM_PARITY", _BESIDE.parent / "parity")).absolute()
    if not folder.is_dir():
        message = f"no official numbers in {folder}; set PERTURBFM_PARITY"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(autouse=True)
def _outputs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERTURBFM_OUTPUTS", str(tmp_path / "outputs"))
