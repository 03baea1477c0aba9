"""The files and images of the notebook on the logging API."""

import os

from azureml.core import Experiment, Run, Workspace

ws = Workspace.from_config()
experiment = Experiment(workspace=ws, name="logging-files")
run = experiment.start_logging()
os.makedirs("outputs", exist_ok=True)
with open("outputs/myfile.txt", "w") as file:
    file.write("This is an output file that will be uploaded.\n")
run.upload_file(name="results/myfile_in_the_cloud.txt", path_or_stream="./outputs/myfile.txt")
run.upload_file(name="outputs/myfile.txt", path_or_stream="outputs/myfile.txt")
run.complete()

fetched = Run(experiment, run.id)
names = fetched.get_file_names()
assert {"results/myfile_in_the_cloud.txt", "outputs/myfile.txt"} <= set(names), names
os.makedirs("files", exist_ok=True)
for name in ("results/myfile_in_the_cloud.txt", "outputs/myfile.txt"):
    fetched.download_file(name=name, output_file_path=os.path.join("files", os.path.basename(name)))
with open("files/myfile.txt") as file:
    assert file.read() == "This is an output file that will be uploaded.\n"
