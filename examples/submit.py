"""Submits a script: the folder is kept, the script runs by itself, and this one follows it.

The `# %%` lines make cells in Jupyter, VS Code and others.
"""

# %%
from pathlib import Path

from runstream.core import Environment, Experiment, ScriptRunConfig, Workspace

experiment = Experiment(workspace=Workspace.from_config(), name="diabetes-ridge")

# %% this interpreter, as it is
environment = Environment("mine")
environment.python.user_managed_dependencies = True

config = ScriptRunConfig(
    source_directory=str(Path(__file__).parent / "submitted"), script="train.py", arguments=["--strongest", 2]
)
config.run_config.environment = environment

# %% it goes on when this process ends
run = experiment.submit(config)
print(run.get_portal_url())

# %% its log, as it is written
run.wait_for_completion(show_output=True)

# %%
metrics = run.get_metrics()
best = min(range(10), key=lambda step: metrics["mse"][step])
print(f"best alpha: {metrics['alpha'][best]:.2f}")
print(run.get_file_names())
