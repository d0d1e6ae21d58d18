"""Callers of both services, until a file says that it is enough: callers.py APP STOP. Says what came of their calls, as JSON."""

import asyncio
import json
import sys
import threading
from pathlib import Path

import ray
from deployer.ray import service

app, stop = sys.argv[1], Path(sys.argv[2])
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
plain, soon = service("plain", app=app), service("soon", app=app)
made, wrong, seen = [0] * 6, [], set()


def enough():
    return stop.exists()


def took(who, number, answer):
    seen.add(answer[0])
    made[who] += 1
    if answer[1] != number:
        wrong.append(f"asked {number}, got {answer}")


def in_turn(who, one):
    number = 0
    while not enough():
        try:
            took(who, number, one.work(number))
        except Exception as error:
            wrong.append(repr(error)[:300])
        number += 1


def in_bulk(who, one):
    """Twenty calls under way at any moment: most of them stand in line when the service is replaced."""
    number = 0
    while not enough():
        replies = [(number + at, one.work.remote(number + at)) for at in range(20)]
        for sent, reply in replies:
            try:
                took(who, sent, reply.result(60))
            except Exception as error:
                wrong.append(repr(error)[:300])
        number += 20


async def in_a_loop(who, one):
    number = 0
    while not enough():
        try:
            took(who, number, await one.work.remote(number))
        except Exception as error:
            wrong.append(repr(error)[:300])
        number += 1


async def loops():
    await asyncio.gather(in_a_loop(4, soon), in_a_loop(5, plain))


threads = [threading.Thread(target=how, args=(who, one)) for who, (how, one) in enumerate(
    [(in_turn, plain), (in_turn, soon), (in_bulk, plain), (in_bulk, soon)])]  # fmt: skip
for thread in threads:
    thread.start()
plain.work(0)
print("calling", flush=True)
asyncio.run(loops())
for thread in threads:
    thread.join()
print(json.dumps({"made": made, "wrong": wrong, "seen": sorted(seen)}))
