"""A service of WebSocket, by the library that people use; prints its port, then serves."""
import asyncio
import sys

import websockets

# How connections ended, by their paths.
ends = {}


async def serve(socket, path):
    end = ends[path] = asyncio.get_running_loop().create_future()
    try:
        async for message in socket:
            if message == "ping me":
                await asyncio.wait_for(await socket.ping(b"are you there"), 20)
                await socket.send("you are")
            elif message == "end it":
                await socket.close(4001, "as you wish")
            elif isinstance(message, str) and message.startswith("how ended "):
                await socket.send(await asyncio.wait_for(ends[message[10:]], 20))
            else:
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    end.set_result(f"{socket.close_code} {socket.close_reason}")


async def main():
    subprotocols = ["v2.chat", "v1.chat"]
    async with websockets.serve(
        serve, sys.argv[1], 0, subprotocols=subprotocols, max_size=4 << 20
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
