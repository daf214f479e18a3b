"""An upstream that takes as long as it is told: ``user`` has the seconds, ten pieces if streamed.

Its text is the credential that it was asked with. python3 upstream.py PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

PIECES = 10


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            fields = dict(line.lower().split(": ", 1) for line in head[1:-1])
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            who = fields.get("authorization", "nobody").removeprefix("bearer ")
            await (streamed if body.get("stream") else whole)(writer, float(body["user"]), who)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def whole(writer: asyncio.StreamWriter, seconds: float, who: str) -> None:
    await asyncio.sleep(seconds)
    message = {"role": "assistant", "content": who}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    told = answer("chat.completion", choice) | {"usage": usage}
    data = json.dumps(told).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write((head % len(data)).encode() + data)


async def streamed(writer: asyncio.StreamWriter, seconds: float, who: str) -> None:
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    writer.write(head.encode())
    for number in range(PIECES):
        reason = "stop" if number == PIECES - 1 else None
        choice = {"index": 0, "delta": {"content": f"{number} {who}\n"}, "finish_reason": reason}
        send(writer, json.dumps(answer("chat.completion.chunk", choice)))
        await writer.drain()
        await asyncio.sleep(seconds / PIECES)
    send(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")


def answer(kind: str, choice: dict[str, object]) -> dict[str, object]:
    return {"id": "x", "object": kind, "created": 1, "model": "m", "choices": [choice]}


def send(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(event), event))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
