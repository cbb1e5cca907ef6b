"""Asks a service of WebSocket for all that such a service does: ADDRESS NAME [CA]."""
import asyncio
import os
import socket
import ssl
import sys

import websockets

(host, port), name = sys.argv[1].rsplit(":", 1), sys.argv[2]
options = {"max_size": 4 << 20, "ping_interval": None, "open_timeout": 20}
scheme = "ws"
if len(sys.argv) > 3:
    scheme = "wss"
    options |= {"ssl": ssl.create_default_context(cafile=sys.argv[3]), "server_hostname": name}


def connect(path, **more):
    plain = socket.create_connection((host, int(port)))
    return websockets.connect(f"{scheme}://{name}{path}", sock=plain, **options, **more)


async def main():
    async with connect("/chat?x=1", subprotocols=["v1.chat", "v3.chat"]) as one:
        assert one.subprotocol == "v1.chat", one.subprotocol
        for message in ["", "hello ä", b"\x00\xff", "y" * (1 << 20), os.urandom(1 << 20)]:
            await one.send(message)
            assert await one.recv() == message
        # In fragments, and many before the first answer.
        await one.send(["in ", "three ", "pieces"])
        assert await one.recv() == "in three pieces"
        for n in range(1000):
            await one.send(str(n))
        for n in range(1000):
            assert await one.recv() == str(n)
        # Control frames pass both ways.
        await asyncio.wait_for(await one.ping(b"there?"), 20)
        await one.send("ping me")
        assert await one.recv() == "you are"
        # Silence is no reason to end it: longer than an ordinary request may pause.
        await asyncio.sleep(float(os.environ["SILENCE"]))
        await one.send("still")
        assert await one.recv() == "still"
        await one.close(4002, "enough")
    async with connect("/ended") as one:
        await one.send("end it")
        await one.wait_closed()
        assert (one.close_code, one.close_reason) == (4001, "as you wish"), one.close_code
    one = await connect("/lost")
    one.transport.abort()
    async with connect("/last") as one:
        for path, end in [("/chat?x=1", "4002 enough"), ("/ended", "4001 as you wish"), ("/lost", "1006 ")]:
            await one.send("how ended " + path)
            said = await one.recv()
            assert said == end, (path, said)
    print("good")


asyncio.run(main())
