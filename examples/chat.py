"""A chat: each line goes to everybody, also to those whose connection is in another worker."""

import asyncio
import queue
import sys

from procoro import Lock, Queue, serve

WORKERS = 2
# An inbox for each worker, and as many again for those that take over at a restart. Who reads one holds its lock, which
# is free again when that worker ends, however it ends.
inboxes = [Queue(1000) for _ in range(2 * WORKERS)]
owners = [Lock() for _ in inboxes]
talkers = set()  # the connections of this worker
reading = []


async def start():
    for inbox, owner in zip(inboxes, owners, strict=True):
        if owner.acquire(block=False):
            reading.append(asyncio.create_task(read(inbox)))
            return


async def read(inbox):
    async for line in inbox:
        await asyncio.gather(*(talker.sendall(line) for talker in talkers), return_exceptions=True)


async def talk(conn):
    talkers.add(conn)
    try:
        while line := await conn.readline():
            for inbox in inboxes:
                try:
                    inbox.put_nowait(line)
                except queue.Full:  # nobody reads it
                    pass
    finally:
        talkers.discard(conn)


serve(talk, port=int(sys.argv[1]) if sys.argv[1:] else 9003, processes=WORKERS, on_start=start)
