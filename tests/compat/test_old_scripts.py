"""Scripts as people wrote them for the old SDK, run unchanged by `python -m runstream.azureml`.

They assert what they read back.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Place

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(scope="module")
def served() -> Iterator[Place]:
    """A place whose server runs, with the configuration file of an old project."""
    root = Path(tempfile.mkdtemp(prefix="runstream-test-"))
    made = Place(root)
    (made.work / ".azureml").mkdir()
    (made.work / ".azureml" / "config.json").write_text(
        '{"subscription_id": "0-0", "resource_group": "my-group", "workspace_name": "my-workspace"}'
    )
    try:
        made.up()
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_it_runs_unchanged(served: Place, name: str) -> None:
    done = served.python(["-m", "runstream.azureml", str(SCRIPTS / f"{name}.py")], {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
