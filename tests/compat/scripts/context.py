"""A training script that was written to be submitted, started by itself."""

from azureml.core import Run, Workspace
from azureml.core.run import _OfflineRun

run = Run.get_context()
if run.id.startswith("OfflineRun"):
    ws = Workspace.from_config()
else:
    ws = run.experiment.workspace
assert type(run) is _OfflineRun
assert ws == run.experiment.workspace
for epoch in range(3):
    run.log("loss", 1 / (epoch + 1), step=epoch)
with run.child_run() as child:
    child.log("inner", 1)
run.tag("stage", "done")
run.parent, run.get_status(), run.get_tags(), run.remove_tags(["stage"])
assert run.get_metrics()["loss"] == [1, 0.5, 1 / 3]
assert Run.get_context() is run
run.complete()
run.log("afterwards", 1)
print(run.id)
