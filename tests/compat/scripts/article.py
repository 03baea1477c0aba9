"""The ways to log that the article on logging names, on a run that is started by hand."""

import azureml.core
from azureml.core import Experiment, Run, Workspace

print(azureml.core.VERSION)
ws = Workspace.from_config()
print("Workspace name: " + ws.name, "Region: " + ws.location, sep="\n")
print("Subscription id: " + ws.subscription_id, "Resource group: " + ws.resource_group, sep="\n")

experiment = Experiment(workspace=ws, name="the-article")
run = experiment.start_logging()

run.log("accuracy", 0.95, description="how often it is right")
run.log_list("accuracies", [0.6, 0.7, 0.87])
run.log_row("Y over X", x=1, y=0.4)
for x in range(3):
    run.log_row("rows", x=x, y=x / 10)
run.log_table("Y over X, at once", {"x": [1, 2, 3], "y": [0.6, 0.7, 0.89]})
run.tag("DeployMe")
run.tag("quality", "fantastic run")
run.complete()

details = run.wait_for_completion(show_output=True)
assert details["status"] == "Completed"
assert run.get_tags() == {"DeployMe": None, "quality": "fantastic run"}
assert run.get_metrics() == {
    "accuracy": 0.95,
    "accuracies": [0.6, 0.7, 0.87],
    "Y over X": {"x": 1, "y": 0.4},
    "rows": {"x": [0, 1, 2], "y": [0.0, 0.1, 0.2]},
    "Y over X, at once": {"x": [1, 2, 3], "y": [0.6, 0.7, 0.89]},
}
again = Run(experiment, run.id)
assert again.get_metrics() == run.get_metrics()
assert run.get_portal_url() in run._repr_html_()
print(run.get_portal_url())
