"""The same tasks in an application of Django's size: much code in memory before the first task runs."""

from __future__ import annotations

import importlib.util
import pkgutil
from typing import Any

from bench.apps.tasks import app

#: What a web project drags in when Django is not installed here: most of the larger standard modules.
STANDARD = [
    "asyncio", "concurrent.futures", "csv", "ctypes", "curses", "dbm", "decimal", "difflib", "doctest",
    "email.mime.text", "email.mime.multipart", "fractions", "ftplib", "html.parser", "http.client",
    "http.cookiejar", "http.server", "imaplib", "inspect", "json.tool", "lib2to3.pgen2.driver", "locale",
    "logging.config", "logging.handlers", "mailbox", "mimetypes", "multiprocessing.managers", "optparse", "pdb",
    "pickletools", "plistlib", "poplib", "pydoc", "pydoc_data.topics", "sched", "shelve", "smtplib", "sqlite3",
    "ssl", "statistics", "tarfile", "tempfile", "tkinter", "tokenize", "trace", "unittest.mock", "urllib.request",
    "urllib.robotparser", "venv", "wsgiref.simple_server", "xml.dom.minidom", "xml.etree.ElementTree",
    "xml.sax.expatreader", "xmlrpc.client", "xmlrpc.server", "zipapp", "zipfile", "zoneinfo",
]  # fmt: skip


def load() -> int:
    """Import Django with its contrib packages, or else the list above; return the number of modules asked for."""
    names = _django() or STANDARD
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # some modules need settings, a display or a newer Python; what matters is the bulk
            continue
    return len(names)


def _django() -> list[str]:
    if importlib.util.find_spec("django") is None:
        return []
    # Not by import statements: Django need not be installed where types are checked.
    django: Any = importlib.import_module("django")
    settings: Any = importlib.import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
        )
    django.setup()
    skipped = ("django.contrib.gis", "django.db.backends", "django.conf.locale", "django.test")
    found = pkgutil.walk_packages(django.__path__, "django.", onerror=lambda _name: None)
    return [module.name for module in found if not module.name.startswith(skipped)]


MODULES = load()

__all__ = ["MODULES", "app"]
