"""An app with a gate: /health on its private socket; the public one is opened when somebody says POST /serve. BROKEN=1: 500."""

import json
import os
import signal
import socket
import threading

names = os.environ["LISTEN_FDNAMES"].split(":")
found = {name: socket.socket(fileno=3 + number) for number, name in enumerate(names)}
leaving = threading.Event()


def identity():
    return {"release": os.environ["DEPLOYER_RELEASE"], "pid": os.getpid(), "busy": 1 if leaving.is_set() else 0}


def public(connection, _line):
    return "500 X" if os.environ.get("BROKEN") else "200 OK"


def private(connection, line):
    if line.startswith("POST /serve"):
        threading.Thread(target=accept, args=(found["http"], public), daemon=True).start()
    return "500 X" if os.environ.get("BROKEN") else "200 OK"


def answer(connection, say):
    with connection:
        line = connection.recv(65536).decode("latin-1")
        if not line:
            return
        body = json.dumps(
            {**identity(), "status": "shutting_down" if leaving.is_set() and say is private else "ok"}
        ).encode()
        head = f"HTTP/1.1 {say(connection, line)}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def accept(listener, say):
    listener.setblocking(False)
    import select

    while not (leaving.is_set() and say is public):
        if select.select([listener], [], [], 0.1)[0]:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue  # another process took it
            connection.setblocking(True)
            threading.Thread(target=answer, args=(connection, say), daemon=True).start()


threading.Thread(target=accept, args=(found["health"], private), daemon=True).start()
if not os.environ.get("DEPLOYER_GATE"):
    threading.Thread(target=accept, args=(found["http"], public), daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: leaving.set())
while not leaving.wait(1):
    pass
threading.Event().wait(float(os.environ.get("DRAINS", "0.3")))
