"""What `submit.py` submits: ridge regression at ten strengths. Run by hand it logs to a run of its own."""

import argparse
import os
import pickle

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

from runstream.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--strongest", type=float, default=1.0)
strongest = parser.parse_args().strongest

run = Run.get_context()
os.makedirs("outputs", exist_ok=True)
x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)

for step in range(10):
    alpha = strongest * step / 10
    model = Ridge(alpha=alpha).fit(x_train, y_train)
    mse = mean_squared_error(y_test, model.predict(x_test))
    run.log("alpha", alpha)
    run.log("mse", mse)
    print(f"alpha {alpha:.2f}: mse {mse:.1f}")
    with open(f"outputs/ridge_{alpha:.2f}.pkl", "wb") as file:
        pickle.dump(model, file)

run.complete()
