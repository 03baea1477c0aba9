"""Training inside of the notebook: one run by hand, some in a loop, the best one of them."""

from azureml.core import Experiment, Workspace
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

features, target = load_diabetes(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(features, target, test_size=0.2, random_state=0)

ws = Workspace.from_config()
experiment = Experiment(workspace=ws, name="train-within")


def train(run, alpha):
    model = Ridge(alpha=alpha).fit(train_x, train_y)
    run.log("alpha", alpha)
    error = mean_squared_error(test_y, model.predict(test_x))
    run.log("mse", error)
    return error


run = experiment.start_logging()
errors = {0.03: train(run, 0.03)}
run.complete()
print(run)

for n in range(8):
    alpha = n / 10
    with experiment.start_logging() as run:
        errors[alpha] = train(run, alpha)

best, best_error = None, float("inf")
for run in experiment.get_runs():
    metrics = run.get_metrics()
    if metrics["mse"] < best_error:
        best, best_error = run, metrics["mse"]
best.tag("Best Run")
assert best_error == min(errors.values())
(found,) = experiment.get_runs(tags="Best Run")
assert found == best
print(best.get_portal_url())
