"""A bot that asks for its updates (getUpdates): each is answered once, whatever release is in the middle of it."""

import http.client
import json
import os
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from deployer.lifecycle import Lifecycle, ShuttingDown

API = urlsplit(os.environ.get("TELEGRAM_API", "https://api.telegram.org"))
TOKEN = os.environ["TELEGRAM_BOT_TOKEN"]
POLL = 30  # seconds that the server may keep us waiting for an update
life = Lifecycle(max_wait="10m", health="127.0.0.1:3006")


def connection() -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if API.scheme == "https" else http.client.HTTPConnection
    return kind(API.netloc, timeout=POLL + 10)


def call(line: http.client.HTTPConnection, method: str, **parameters: Any) -> Any:
    try:
        line.request("POST", f"/bot{TOKEN}/{method}", json.dumps(parameters), {"Content-Type": "application/json"})
        return json.load(line.getresponse())["result"]
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        line.close()  # the next call connects again
        raise


polls, answers = connection(), connection()


def hang_up() -> None:
    """End the poll that is waiting now. What it would have brought is not confirmed, and comes to the next release."""
    polls.auto_open = 0
    if polls.sock is not None:
        polls.sock.shutdown(socket.SHUT_RDWR)


def main() -> None:
    offset = 0
    while not life.shutting_down:
        try:
            updates = call(polls, "getUpdates", offset=offset, timeout=POLL)
        except Exception as error:  # whatever it was: there is nothing to do but to ask again
            if life.sleep("1s"):
                print(f"getUpdates: {type(error).__name__}; asking again")
            continue
        for update in updates:
            try:
                with life.task(f"update {update['update_id']}"):
                    answer(update["message"])
            except ShuttingDown:
                break  # this one, and the rest, come to the next release
            offset = update["update_id"] + 1
    if offset:
        call(answers, "getUpdates", offset=offset, timeout=0, limit=1)  # confirms what we have answered


def answer(message: dict[str, Any]) -> None:
    time.sleep(float(message["text"]))  # stands for your work
    text = f"slept for {message['text']} s in {os.environ.get('DEPLOYER_RELEASE')}"
    call(answers, "sendMessage", chat_id=message["chat"]["id"], text=text)


if __name__ == "__main__":
    life.on_leaving(hang_up)
    life.run(main)
