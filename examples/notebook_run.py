"""One run, as in a notebook: values, lists, rows, tables and tags, and what comes back.

The `# %%` lines make cells in Jupyter, VS Code and others.
"""

# %%
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import SGDRegressor
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from runstream import Experiment, Workspace

x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
scaler = StandardScaler().fit(x_train)
x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)

# %% a run begins
workspace = Workspace.from_config()
experiment = Experiment(workspace=workspace, name="diabetes-sgd")
run = experiment.start_logging()

# %% the same name again and again becomes a curve
model = SGDRegressor(random_state=0)
for epoch in range(50):
    model.partial_fit(x_train, y_train)
    run.log("train mse", mean_squared_error(y_train, model.predict(x_train)), step=epoch)
    run.log("test mse", mean_squared_error(y_test, model.predict(x_test)), step=epoch)

# %% a list, rows and a table
predicted = model.predict(x_test)
run.log_list("residuals", y_test - predicted)
for quantile in (0.1, 0.5, 0.9):
    run.log_row(
        "error by quantile", quantile=quantile, error=np.quantile(np.abs(y_test - predicted), quantile)
    )
run.log_table("coefficients", {"feature": load_diabetes().feature_names, "weight": model.coef_})
run.log("verdict", "good enough")
run.tag("model", "SGDRegressor")

# %% what was logged is there at once
metrics = run.get_metrics()
print(
    f"{len(metrics['test mse'])} epochs, from {metrics['test mse'][0]:.0f} to {metrics['test mse'][-1]:.0f}"
)
print("coefficients:", dict(zip(*metrics["coefficients"].values(), strict=True)))
print(run.get_portal_url())

# %% and it ends
run.complete()
