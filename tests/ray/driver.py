"""One driver for all tests: a JSON list a line, [what, ...], answered by a line of JSON.."""

import json
import sys

from ray._private.state import actors, jobs

import ray
from deployer.ray import service

APP = "t-app"
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
out, sys.stdout = sys.stdout, sys.stderr  # Ray prints what happens to its nodes
held = {}


def call(name, method, *args):
    return getattr(service(name, app=APP), method).remote(*args).result(60)


def hold(key, name, path):
    held[key] = service(name, app=APP).hold.remote(path)


def held_answer(key):
    return held[key].result(60)


def observe():
    seen = ray.get(ray.get_actor("deployer", namespace=APP).observe.remote(), timeout=60)
    services = {one["spec"]["service"]: one for one in seen["services"]}
    return {**seen, "services": services}


def look():
    named = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True)]
    return {"named": named, "state": repr(actors()) + repr(jobs())}


for line in sys.stdin:
    what, *rest = json.loads(line)
    try:
        answer = {"answer": globals()[what](*rest)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=out, flush=True)
