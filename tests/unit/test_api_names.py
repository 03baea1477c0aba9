"""Names and parameters of the compatible API, as scripts use them; what imports what."""

import importlib
import inspect
import subprocess
import sys

import pytest

import runstream
import runstream.core
import runstream.exceptions
from runstream import errors

# What scripts of the old SDK may call, and its parameters in their order; more may follow.
SIGNATURES = """
workspace.Workspace                          subscription_id resource_group workspace_name
workspace.Workspace.from_config              path auth
workspace.Workspace.get                      name auth subscription_id resource_group location cloud id
workspace.Workspace.create                   name auth subscription_id resource_group
workspace.Workspace.list                     subscription_id auth resource_group
workspace.Workspace.write_config             path file_name
workspace.Workspace.get_run                  run_id
workspace.Workspace.get_details
experiment.Experiment                        workspace name
experiment.Experiment.start_logging
experiment.Experiment.submit                 config tags
experiment.Experiment.get_runs               type tags properties include_children
experiment.Experiment.list                   workspace experiment_name view_type tags
experiment.Experiment.delete                 workspace experiment_id
experiment.Experiment.tag                    key value
experiment.Experiment.set_tags               tags
experiment.Experiment.remove_tags            tags
experiment.Experiment.refresh
experiment.Experiment.archive
experiment.Experiment.reactivate             new_name
experiment.Experiment.get_portal_url
experiment.Experiment.get_docs_url
run.Run                                      experiment run_id outputs
run.Run.get                                  workspace run_id
run.Run.list                                 experiment type tags properties status include_children
run.Run.get_context                          allow_offline
run.Run.log                                  name value description step
run.Run.log_list                             name value description
run.Run.log_row                              name description
run.Run.log_table                            name value description
run.Run.get_metrics                          name recursive run_type populate
run.Run.tag                                  key value
run.Run.set_tags                             tags
run.Run.get_tags
run.Run.remove_tags                          tags
run.Run.add_properties                       properties
run.Run.get_properties
run.Run.child_run                            name run_id outputs
run.Run.create_children                      count tag_key tag_values
run.Run.get_children                         recursive tags properties type status
run.Run.submit_child                         config tags
run.Run.take_snapshot                        file_or_folder_path
run.Run.get_snapshot_id
run.Run.restore_snapshot                     snapshot_id path
run.Run.start
run.Run.complete
run.Run.fail                                 error_details error_code
run.Run.cancel
run.Run.flush                                timeout_seconds
run.Run.wait_for_completion                  show_output wait_post_processing raise_on_error
run.Run.get_status
run.Run.get_detailed_status
run.Run.get_details
run.Run.get_portal_url
run.get_run                                  experiment run_id rehydrate clean_up
script_run_config.ScriptRunConfig            source_directory script arguments run_config compute_target \
    environment distributed_job_config resume_from max_run_duration_seconds command docker_runtime_config
runconfig.RunConfiguration  script arguments framework communicator conda_dependencies command
runconfig.PyTorchConfiguration               communication_backend process_count node_count
runconfig.MpiConfiguration                   process_count_per_node node_count
environment.Environment                      name
environment.Environment.from_pip_requirements name file_path
environment.Environment.from_conda_specification name file_path
conda_dependencies.CondaDependencies.create  pip_indexurl pip_packages conda_packages python_version
script_run.ScriptRun                         experiment run_id
"""
PROPERTIES = """
workspace.Workspace   name location subscription_id resource_group tags sku experiments
experiment.Experiment id name workspace tags
run.Run               id number type name experiment parent status tags properties display_name description
"""
EXCEPTIONS = """
AzureMLException            Exception
UserErrorException          AzureMLException
AuthenticationException     UserErrorException
RunEnvironmentException     AzureMLException
ExperimentExecutionException AzureMLException
ActivityFailedException     AzureMLException
SnapshotException           AzureMLException
RunConfigurationException   AzureMLException
TrainingException           AzureMLException
ModelNotFoundException      AzureMLException
ModelPathNotFoundException  AzureMLException
WorkspaceException          AzureMLException
ServiceException            AzureMLException
"""


def rows(table: str) -> list[tuple[str, list[str]]]:
    return [(words[0], words[1:]) for line in table.split("\n") if (words := line.split())]


def named(path: str) -> object:
    module, _, rest = path.partition(".")
    found: object = importlib.import_module(f"runstream.core.{module}")
    for name in rest.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(("path", "expected"), rows(SIGNATURES), ids=lambda row: str(row))
def test_parameters(path: str, expected: list[str]) -> None:
    signature = inspect.signature(named(path))  # type: ignore[arg-type]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    parameters = [name for name, found in signature.parameters.items() if found.kind in kinds]
    assert [name for name in parameters if name != "self"][: len(expected)] == expected
    for name in expected:
        if name not in ("name", "value", "key", "tags", "properties", "experiment", "run_id", "workspace"):
            continue
        assert signature.parameters[name].kind != inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(("path", "expected"), rows(PROPERTIES), ids=lambda row: str(row))
def test_properties(path: str, expected: list[str]) -> None:
    assert [name for name in expected if not isinstance(getattr(named(path), name), property)] == []


@pytest.mark.parametrize(("name", "bases"), rows(EXCEPTIONS), ids=lambda row: str(row))
def test_exceptions(name: str, bases: list[str]) -> None:
    found = getattr(runstream.exceptions, name)
    base = Exception if bases == ["Exception"] else getattr(runstream.exceptions, bases[0])
    assert issubclass(found, base)
    assert name in runstream.exceptions.__all__


def test_every_error_of_ours_is_one_of_theirs() -> None:
    ours = [found for found in vars(errors).values() if isinstance(found, type)]
    assert len(ours) > 10
    assert all(issubclass(found, runstream.exceptions.AzureMLException) for found in ours)
    drawn = errors.__doc__ or ""
    assert [found.__name__ for found in ours if found.__name__ not in drawn] == []


def test_everything_is_at_the_top_too() -> None:
    assert runstream.__version__ == runstream.core.VERSION
    for name in runstream.core.__all__:
        if name != "VERSION":
            assert getattr(runstream, name) is getattr(runstream.core, name)
    assert runstream.Run is named("run.Run")
    assert runstream.Experiment is named("experiment.Experiment")


def test_logging_loads_neither_grpc_nor_protobuf_nor_numpy(tmp_path: object) -> None:
    code = """
import sys, os
os.environ["RUNSTREAM_MODE"] = "offline"
import runstream.core, runstream.exceptions, runstream.core.authentication
from runstream import Experiment, Run, Workspace
run = Experiment(Workspace.from_config(), "x").start_logging(outputs=False, tags={"a": "b"})
run.log("x", 1.0); run.add_properties({"p": "q"}); run.log_params({"lr": 1}); run.display_name = "n"
child = run.child_run(); child.complete(); run.create_children(2); run.complete()
heavy = ("grpc", "google.protobuf", "numpy", "http.client", "dataclasses", "asyncio")
print([name for name in heavy if name in sys.modules])
"""
    environment = {"RUNSTREAM_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
