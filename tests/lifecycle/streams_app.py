"""A server of asyncio streams under `life.serve`: GET /, /slow (a task of 4 s), /health. Connections are kept."""

import asyncio
import json
import os

from deployer.lifecycle import Lifecycle

life = Lifecycle(linger="500ms")


async def serve(reader, writer):
    used = False
    while True:
        asked = await life.begins(reader, used=used)
        if not asked:
            break
        used, path = True, asked.split()[1]
        code, said = life.health() if path == b"/health" else (200, {})
        if path == b"/slow":
            async with life.task("slow"):
                await asyncio.sleep(4)
        body = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]))
    await life.serve(server)


if __name__ == "__main__":
    asyncio.run(main())
