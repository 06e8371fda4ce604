"""Names expand as Celery expands them."""

from __future__ import annotations

import socket

import pytest

from fastq.config.nodename import file_name, node_name
from fastq.errors import OptionError

HOST = "box.example.com"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, "celery@box.example.com"),
        ("", "celery@box.example.com"),
        ("celery@%h", "celery@box.example.com"),
        ("w1@%h", "w1@box.example.com"),
        ("w1", "celery@w1"),
        ("@other", "celery@other"),
        ("w1@", "w1@box.example.com"),
        ("w1@%n", "w1@box"),
        ("w1@%d", "w1@example.com"),
        ("%n@%n", "box@box"),
        ("100%%@h", "100%@h"),
    ],
)
def test_node_names(template: str | None, name: str) -> None:
    assert node_name(template, host=HOST) == name


@pytest.mark.parametrize("template", [None, "w1", "w1@%h", "%n@x", "a@%d", "@h", "w@"])
def test_node_names_are_celerys(template: str | None) -> None:
    nodenames = pytest.importorskip("celery.utils.nodenames")
    assert node_name(template) == nodenames.host_format(nodenames.default_nodename(template))


@pytest.mark.parametrize(
    ("template", "child", "path"),
    [
        ("/var/log/%n.log", 0, "/var/log/w1.log"),
        ("/var/log/%n%I.log", 0, "/var/log/w1.log"),
        ("/var/log/%n%I.log", 3, "/var/log/w1-3.log"),
        ("/var/log/%n-%i.log", 0, "/var/log/w1-0.log"),
        ("/var/log/%h-%d.log", 0, "/var/log/box.example.com-example.com.log"),
    ],
)
def test_file_names(template: str, child: int, path: str) -> None:
    assert file_name(template, node=f"w1@{HOST}", child=child) == path


def test_a_node_without_a_name_is_celery() -> None:
    assert file_name("%n@%h", node="justhost") == "celery@justhost"


def test_an_unknown_place_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="%x in 'w@%x'"):
        node_name("w@%x")


def test_the_host_is_this_one() -> None:
    assert node_name("w@%h") == f"w@{socket.gethostname()}"
