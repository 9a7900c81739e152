"""A TCP proxy between workers and coordinator that loses, delays, halves and repeats messages."""

import asyncio
import json
import random
import re
import socket
import struct
import threading

FAULTS = {
    "delay": 10,
    "refuse": 3,
    "cut_request": 3,
    "cut_reply": 5,
    "twice": 5,
    "late_copy": 4,
    "none": 70,
}
COMPLETE = re.compile(rb"^POST /v1/leases/([0-9.]+)/complete ")
LEASE = re.compile(rb"^POST /v1/leases ")


class History:
    """What the coordinator said, as it left it: who leased what, what it acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.leases = {}  # lease: (job, ordinal, worker)
        self.acknowledged = {}  # (job, ordinal): [(worker, sha256)]

    def note(self, request, reply):
        body = reply.partition(b"\r\n\r\n")[2]
        if not reply.startswith(b"HTTP/1.1 200"):
            return
        asked = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
        with self.lock:
            if LEASE.match(request):
                for lease in json.loads(body)["leases"]:
                    holder = (lease["job"], lease["ordinal"], asked["worker"])
                    self.leases[lease["lease"]] = holder
            elif COMPLETE.match(request) and asked["lease"] in self.leases:
                if json.loads(body)["outcome"] == "agreed":
                    return
                job, ordinal, worker = self.leases[asked["lease"]]
                commits = self.acknowledged.setdefault((job, ordinal), [])
                commits.append((worker, asked["sha256"]))

    def commits(self, job):
        """The acknowledged commits of a job: {ordinal: {(worker, sha256)}}."""
        with self.lock:
            return {
                ordinal: set(commits)
                for (of, ordinal), commits in self.acknowledged.items()
                if of == job
            }


class Proxy:
    """Listens on a loopback port from a thread of its own."""

    def __init__(self, coordinator_port, seed):
        self.coordinator_port = coordinator_port
        self.random = random.Random(seed)
        self.history = History()
        self.is_faulty = False
        self.faults = dict.fromkeys(FAULTS, 0)
        self.later = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait()

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 25)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    async def _serve(self, reader, writer):
        """Answers the requests of one connection until somebody closes it."""
        try:
            while request := await read_message(reader):
                if not await self._pass_on(request, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # One of the two ends was killed; the other sees its connection break.
        finally:
            reset(writer)

    async def _pass_on(self, request, reader, writer):
        """Brings a request to the coordinator and its reply back; false ends the connection."""
        fault = self._choose()
        self.faults[fault] += 1
        if fault == "refuse":
            return False
        if fault == "delay":
            await asyncio.sleep(self.random.uniform(0, 0.3))
        if fault == "cut_request":
            await self._send_part(request)
            return False
        if fault == "twice":
            self._repeat(request, 0)
        reply = await unless_closed(self._ask(request), reader)
        if reply is None:
            return False
        if fault == "late_copy":
            self._repeat(request, self.random.uniform(0.2, 6))
        if fault == "cut_reply":
            writer.write(reply[: self.random.randrange(len(reply))])
            await writer.drain()
            return False
        writer.write(reply)
        await writer.drain()
        return True

    def _choose(self):
        if not self.is_faulty:
            return "none"
        return self.random.choices(list(FAULTS), FAULTS.values())[0]

    async def _ask(self, request):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.coordinator_port, limit=1 << 25
        )
        try:
            writer.write(request)
            await writer.drain()
            reply = await read_message(reader)
            if reply:
                self.history.note(request, reply)
            return reply
        finally:
            writer.transport.abort()

    async def _send_part(self, request):
        _, writer = await asyncio.open_connection("127.0.0.1", self.coordinator_port)
        writer.write(request[: self.random.randrange(len(request))])
        await writer.drain()
        reset(writer)

    def _repeat(self, request, seconds):
        """Sends a request again; nobody hears the reply."""

        async def send():
            await asyncio.sleep(seconds)
            try:
                await asyncio.wait_for(self._ask(request), 30)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError):
                pass

        task = self.loop.create_task(send())
        self.later.add(task)
        task.add_done_callback(self.later.discard)


async def read_message(reader):
    """Reads an HTTP message with a Content-Length; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def unless_closed(work, reader):
    """The result of `work`; None as soon as the client closes its connection."""
    work = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(reader.read(1))
    await asyncio.wait({work, closed}, return_when=asyncio.FIRST_COMPLETED)
    unfinished = work if closed.done() else closed
    unfinished.cancel()
    await asyncio.wait({unfinished})
    return None if closed.done() and not closed.cancelled() else work.result()


def reset(writer):
    """Closes a connection with RST, as a machine that lost its power would after its return."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
