"""An application that accepts every serializer, one of its own registered among them."""

from __future__ import annotations

from kombu.serialization import register

from tests.apps import plain


def _encode(value: object) -> str:
    return repr(value)


def _decode(text: bytes | str) -> object:
    import ast

    return ast.literal_eval(text.decode() if isinstance(text, bytes) else text)


register("pyrepr", _encode, _decode, content_type="application/x-pyrepr", content_encoding="utf-8")

CONTENT = ["json", "pickle", "yaml", "msgpack", "pyrepr", "application/x-pyrepr"]

table = plain.table
app = table.build_from_environment()
app.conf.accept_content = CONTENT
app.conf.result_accept_content = CONTENT
