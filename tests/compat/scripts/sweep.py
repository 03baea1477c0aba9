"""A sweep whose trials are children that are logged from the processes of a pool, then read as one."""

import multiprocessing

from azureml.core import Experiment, Run, Workspace


def trial(arguments):
    run, depth = arguments
    for step in range(20):
        run.log("loss", depth / (step + 1), step=step)
    return run.id


if __name__ == "__main__":
    ws = Workspace.from_config()
    root_run = Experiment(ws, "sweep").start_logging()
    children = []
    for depth in range(1, 5):
        child = root_run.child_run("depth" + str(depth))
        child.tag("depth", depth)
        children.append(child)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ids = pool.map(trial, [(child, depth) for depth, child in enumerate(children, 1)])
    assert ids == [child.id for child in children]
    for child in children:
        child.complete()
    root_run.log("trials", len(children))
    root_run.complete()

    found = Run.get(ws, root_run.id).get_metrics(name="loss", recursive=True)
    assert found.keys() == set(ids)
    best = min(found, key=lambda run_id: found[run_id]["loss"][-1])
    assert Run.get(ws, best).display_name == "depth1"
    print(best)
