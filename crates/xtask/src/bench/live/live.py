"""A small service for benches: answers GET and POST, keeps WebSockets open, and misbehaves on wish.

MODE says how: well, crash, hang, unhealthy, slow, errors, leak.
"""

import asyncio
import base64
import hashlib
import os
import signal
import struct

MODE = os.environ.get("MODE", "well")
RELEASE = os.environ.get("RELEASE", "0")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WORKING = set()
SOCKETS = set()
KEPT = []
COUNT = 0


async def head_of(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    return lines[0].split(b" "), fields


def answer(status, text):
    body = text.encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def respond(path):
    global COUNT
    COUNT += 1
    if path.startswith("/health"):
        return answer("500 no", "no") if MODE == "unhealthy" else answer("200 OK", "ok")
    if path.endswith("/eat"):
        while True:
            KEPT.append(bytearray(os.urandom(1 << 20)))
            await asyncio.sleep(0)
    if MODE == "slow":
        await asyncio.sleep(1.0)
    if MODE == "errors" and COUNT % 3 == 0:
        return answer("500 Internal Server Error", "broken on wish")
    if MODE == "leak":
        KEPT.append(bytearray(os.urandom(2 << 20)))
    return answer("200 OK", RELEASE)


async def websocket(reader, writer, fields):
    accept = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    SOCKETS.add(writer)
    try:
        while True:
            first, second = await reader.readexactly(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
            mask = await reader.readexactly(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(length)))
            opcode = first & 15
            if opcode == 8:
                writer.write(b"\x88" + bytes([len(data)]) + data)
                await writer.drain()
                return
            # A ping is answered by a pong, anything else comes back as it is.
            writer.write(bytes([0x80 | (10 if opcode == 9 else opcode), len(data)]) + data)
            await writer.drain()
    finally:
        SOCKETS.discard(writer)


async def serve(reader, writer):
    try:
        while True:
            (method, target, *_), fields = await head_of(reader)
            if fields.get(b"upgrade", b"").lower() == b"websocket":
                await websocket(reader, writer, fields)
                return
            await reader.readexactly(int(fields.get(b"content-length", b"0")))
            task = asyncio.current_task()
            WORKING.add(task)
            try:
                writer.write(await respond(target.decode()))
                await writer.drain()
            finally:
                WORKING.discard(task)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    if MODE == "crash":
        raise SystemExit("crash on wish")
    if MODE == "hang":
        await asyncio.Event().wait()
    server = await asyncio.start_server(serve, "0.0.0.0", 8000)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    server.close()
    if WORKING:
        await asyncio.wait(WORKING, timeout=5)


asyncio.run(main())
