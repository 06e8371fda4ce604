"""Find the Celery application that -A names, and say in one line what is wrong with it if there is none."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from fastq.config.settings import WorkerOptions
from fastq.errors import ApplicationError
from fastq.importing import last_line, look_here_first, place_of


def find(options: WorkerOptions) -> Any:
    """The application object. Raises ApplicationError; its evidence holds the traceback as `details`."""
    look_here_first()
    if not options.app:
        return _default_application()
    from celery.app.utils import find_app

    try:
        found = find_app(options.app)
    except ModuleNotFoundError as error:
        raise _missing_module(options.app, error) from error
    except AttributeError as error:
        raise _missing_attribute(options.app, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(options.app, error) from error
    return _checked(options.app, found)


def _default_application() -> Any:
    from celery._state import get_current_app

    try:
        return get_current_app()
    except Exception as error:
        raise _failed("the default application", error) from error


def _checked(name: str, found: Any) -> Any:
    from celery import Celery
    from celery.local import Proxy

    app = found._get_current_object() if isinstance(found, Proxy) else found
    if not isinstance(app, Celery):
        raise ApplicationError(
            f"-A {name}: this is no Celery application but {type(app).__name__}; name it as module:attribute"
        )
    return app


def _missing_module(name: str, error: ModuleNotFoundError) -> ApplicationError:
    module, _, attribute = name.partition(":")
    missing = error.name or ""
    if missing == name and attribute and module in sys.modules:
        # Celery takes what is no attribute for a module.
        return ApplicationError(f"-A {name}: there is no {attribute!r} in module {module!r}")
    if module == missing or module.startswith(f"{missing}."):
        return ApplicationError(
            f"-A {name}: there is no module {missing!r} (looked from {os.getcwd()})", details=traceback.format_exc()
        )
    return _failed(name, error)


def _missing_attribute(name: str, error: AttributeError) -> ApplicationError:
    if _raised_in_user_code(error):
        return _failed(name, error)
    return ApplicationError(
        f"-A {name}: no Celery application in it ({error}); name it as module:attribute",
        details=traceback.format_exc(),
    )


def _raised_in_user_code(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    ours = (f"{os.sep}celery{os.sep}app{os.sep}utils.py", f"{os.sep}kombu{os.sep}utils{os.sep}imports.py")
    return bool(frames) and not frames[-1].filename.endswith(ours) and "importlib" not in frames[-1].filename


def _failed(name: str, error: BaseException) -> ApplicationError:
    return ApplicationError(
        f"-A {name}: importing it failed: {last_line(error)}{place_of(error)}", details=traceback.format_exc()
    )
