"""Version of the installed runstream."""

from functools import cache


@cache
def version() -> str:
    """The distribution's version; "0" when it isn't installed as one."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("runstream")
    except PackageNotFoundError:
        return "0"
