"""Scripts as people wrote them for the old SDK, run unchanged by `python -m runstream.azureml`.

They assert what they read back.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server import Place

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture(scope="module")
def served(lodger: Place) -> Place:
    """A place with the configuration file of an old project, which names the workspace."""
    del lodger.settings["RUNSTREAM_WORKSPACE"]
    (lodger.work / ".azureml").mkdir()
    (lodger.work / ".azureml" / "config.json").write_text(
        '{"subscription_id": "0-0", "resource_group": "my-group", "workspace_name": "my-workspace"}'
    )
    return lodger


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_it_runs_unchanged(served: Place, name: str) -> None:
    done = served.python(["-m", "runstream.azureml", str(SCRIPTS / f"{name}.py")], {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
