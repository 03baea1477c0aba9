"""A sweep: Ridge's alpha from 0.00 to 0.95 on the diabetes data, one run for each. Each leaves its model in
`outputs/`, from where it becomes part of the run's record.

Prints a line for each run that ends with the run's id. Where the points go is found by itself: a server on
this machine, `RUNSTREAM_SERVER`, or a `.runstream/config.json`.
"""

import joblib
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

from runstream import Experiment, Workspace

ALPHAS = [round(0.05 * step, 2) for step in range(20)]


def train(alpha: float) -> tuple[Ridge, float]:
    """The model, and its mean squared error on the test set."""
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
    model = Ridge(alpha=alpha).fit(x_train, y_train)
    return model, float(mean_squared_error(y_test, np.asarray(model.predict(x_test))))


def evaluate(alpha: float) -> float:
    """Mean squared error on the test set."""
    return train(alpha)[1]


def main() -> None:
    experiment = Experiment(workspace=Workspace.from_config(), name="diabetes-ridge")
    for alpha in ALPHAS:
        with experiment.start_logging() as run:
            model, mse = train(alpha)
            run.log("alpha", alpha)
            run.log("mse", mse)
            joblib.dump(model, f"outputs/ridge_{alpha:.2f}.pkl")
        print(f"alpha {alpha:.2f}  mse {mse:.2f}  {run.id}", flush=True)


if __name__ == "__main__":
    main()
