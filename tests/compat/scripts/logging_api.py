"""The calls of the notebook on the logging API, cell by cell; files and images are in logging_files.py."""

import math

import azureml.core
import numpy as np
from azureml.core import Experiment, Workspace
from azureml.core.run import Run

print("SDK version: " + azureml.core.VERSION)
ws = Workspace.from_config()
print(ws.name, ws.location, ws.subscription_id, ws.resource_group, sep="\t")

experiment = Experiment(workspace=ws, name="logging-api-test")
run = experiment.start_logging()
print(run.id)
assert "<table" in run._repr_html_()
assert "<table" in experiment._repr_html_()

run.log(name="hello", value="logging from a script")
run.log("magic", 42)
run.log("magic", 43)

fibonacci = [0, 1, 1, 2, 3, 5, 8]
run.log_list(name="Fibonacci", value=(number for number in fibonacci), description="a generator")
for angle in np.linspace(0, 2 * np.pi, 20):
    run.log("sine", np.sin(angle))
for angle in range(20):
    run.log_row(name="Cosine Wave", angle=angle, cos=math.cos(angle))
sines = {"angle": list(range(20)), "sine": [math.sin(angle) for angle in range(20)]}
run.log_table(name="Sine Wave", value=sines)
for n in range(300):
    run.log_row("many columns", "described by position", **{f"c{column}": n + column for column in range(15)})
run.complete()

fetched = Run(experiment, run.id)
metrics = fetched.get_metrics()
assert metrics["hello"] == "logging from a script"
assert metrics["magic"] == [42, 43]
assert metrics["Fibonacci"] == fibonacci
assert metrics["sine"] == [float(np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 20)]
assert metrics["Cosine Wave"]["cos"][3] == math.cos(3)
assert metrics["Sine Wave"] == sines
assert metrics["many columns"]["c14"] == list(range(14, 314))
assert fetched.get_metrics(name="magic") == {"magic": [42, 43]}

fetched.tag("My Favorite Color", "blue")
fetched.tag("Competition Rank", 1)
assert fetched.get_tags() == {"My Favorite Color": "blue", "Competition Rank": "1"}
