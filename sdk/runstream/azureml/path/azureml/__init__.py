"""Stands for the old SDK in processes whose PYTHONPATH leads here: see `runstream.azureml`."""

try:
    from runstream.azureml import install
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "azureml is to be replaced by runstream (this process comes from `python -m runstream.azureml`), but "
        "this interpreter has no runstream: install it, or take the folder of this file out of PYTHONPATH",
        name="azureml",
    ) from None

install()
