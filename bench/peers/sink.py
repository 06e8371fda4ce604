"""Take whatever monitoring agents send, and say that it is fine: a collector that costs as little as one can.

It runs in a process of its own (`python -m bench.peers.sink` prints its port) on the same cores as everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from bench.processes import ROOT
from fastq.background import die_with_parent

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read request after request by its length, and answer each."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            if b"content-length:" in head:
                await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            elif b"chunked" in head:
                await _read_chunks(reader)
            writer.write(ANSWER)
            await writer.drain()
    writer.close()


async def _read_chunks(reader: asyncio.StreamReader) -> None:
    while size := int((await reader.readline()).split(b";", 1)[0], 16):
        await reader.readexactly(size + 2)
    await reader.readline()


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """Host and port of a sink that lives as long as the block."""
    command = [sys.executable, "-m", "bench.peers.sink"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def main() -> None:
    """Serve on a free port, which is printed, until killed."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
