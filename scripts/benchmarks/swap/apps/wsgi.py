"""The WSGI twin of overlap_app for gunicorn: the same paths and answers. What differs between releases is in settings.json."""

import json
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

SETTINGS = json.loads((Path(__file__).parent / "settings.json").read_text())
if SETTINGS.get("BROKEN") == "exit":
    raise ImportError("swap: told to be broken")
time.sleep(float(SETTINGS["BOOT"]))


def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(float(parse_qs(environ["QUERY_STRING"])["seconds"][0]))
    body = json.dumps({"status": "ok", "release": SETTINGS["DEPLOYER_RELEASE"], "pid": os.getpid()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
