"""The calls of the notebook on managing runs; what it submits is in submitted ones."""

from azureml.core import Experiment, Run, Workspace

ws = Workspace.from_config()
exp = Experiment(workspace=ws, name="explore-runs")

notebook_run = exp.start_logging()
notebook_run.log(name="message", value="Hello from run!")
print(notebook_run.get_status())
assert notebook_run.get_status() == "Running"
print(notebook_run.get_details())
notebook_run.complete()
assert notebook_run.get_status() == "Completed"

with exp.start_logging() as notebook_run:
    notebook_run.log(name="message", value="Hello from run!")
    print("Is it still running?", notebook_run.get_status())
print("Has it completed?", notebook_run.get_status())
assert notebook_run.get_status() == "Completed"

local_run = exp.start_logging()
local_run.add_properties({"author": "azureml-user"})
print(local_run.get_properties())
try:
    local_run.add_properties({"author": "different-user"})
except Exception as error:
    print(error)
else:
    raise AssertionError("a property has changed")
local_run.tag("quality", "great run")
print(local_run.get_tags())
local_run.tag("quality", "fantastic run")
assert local_run.get_tags() == {"quality": "fantastic run"}
local_run.set_tags({"worth another look": None})
assert local_run.get_tags() == {"quality": "fantastic run", "worth another look": None}
local_run.complete()

assert list(exp.get_runs(properties={"author": "azureml-user"})) == [local_run]
assert list(exp.get_runs(tags={"quality": "fantastic run"})) == [local_run]
assert list(exp.get_runs(tags="worth another look")) == [local_run]

parent = exp.start_logging()
for n, child in enumerate(parent.create_children(count=5)):
    child.log(name="Hello from child run ", value=n)  # with a space at the end
    child.complete()
with parent.child_run() as child:
    child.log(name="Hello from context manager child run", value=6)
parent.complete()
children = list(parent.get_children())
print([child.id for child in children])
assert len(children) == 6
assert [child.get_metrics()["Hello from child run "] for child in children[1:]] == [4, 3, 2, 1, 0]
assert list(parent.get_children(tags={"azureml.batch_child_number": 3})) == [children[2]]

failed = exp.start_logging()
failed.fail(error_details="it was told to")
assert Run(exp, failed.id).get_status() == "Failed"
canceled = exp.start_logging()
canceled.cancel()
assert canceled.get_status() == "Canceled"
assert canceled.wait_for_completion()["status"] == "Canceled"
assert ws.experiments["explore-runs"] == exp
