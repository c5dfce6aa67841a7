"""Takes the Cloud SQL Auth Proxy's arguments; the instance NAMESPACE:REGION1:SERVICE is that Service of the cluster."""

import argparse
import asyncio
import signal
from contextlib import suppress

parser = argparse.ArgumentParser()
for switch in ("structured-logs", "exit-zero-on-sigterm", "health-check", "private-ip", "auto-iam-authn"):
    parser.add_argument(f"--{switch}", action="store_true")
parser.add_argument("--http-address", required=True)
parser.add_argument("--http-port", type=int, required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("instance")


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all that comes, and the end."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until told to stop; a run that waits for it would wait for ever."""
    args = parser.parse_args()
    namespace, _, service = args.instance.split(":")

    async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection(f"{service}.{namespace}.svc", 5432)
        await asyncio.gather(copy(reader, behind[1]), copy(behind[0], writer))

    async def health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    told_to_stop = asyncio.Event()  # as process 1, it would ignore the signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    await asyncio.start_server(database, "127.0.0.1", args.port)
    await asyncio.start_server(health, args.http_address, args.http_port)
    await told_to_stop.wait()


asyncio.run(main())
