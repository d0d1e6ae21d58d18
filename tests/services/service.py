"""
A service that misbehaves as told: what tests deploy. Standard library only, up in well under 60 ms.

    service.py [--option VALUE | --flag]...        every option may be the variable SERVICE_OPTION instead

Listening
  --port N             127.0.0.1:N; default $PORT; fd 3 instead when LISTEN_FDS is ours. None of them: no listener
  --wrong-port         listen, but on some other port
  --no-listen          a plain worker without a socket
  --leak-socket        children inherit the listening socket
  --boot S             sleep S before listening          --warmup S   answer 503 "starting" for S after that
Ending
  --exit-at-once CODE  complain on stderr and exit       --crash-after S   the same after S seconds, code 3
  --exit-code N        the code of an orderly stop (0)   --stop-takes S    an orderly stop takes S longer
  --on-term MODE       finish (default): refuse new tasks, finish those in flight, exit
                       ignore: note the signal, go on serving     now: exit, cutting tasks
                       default: no handler at all: die of it
  --stop-signal NAME   the signal that means stop (SIGTERM)
  --quiet-signal NAME  refuse new tasks from this signal on, do not exit
  --at-start CMD       run the shell command CMD (or `say WORDS`) first        --at-stop CMD   the same in an orderly stop
Work
  POST /task?seconds=S&name=N   answers when the task is done       --task S   one is in flight from the start
  POST /task?after=S            the same, done S seconds after it was asked to be quiet or to stop
  POST /finish         every task in flight is done now
  --spawn KIND:S       (a comma-separated list) start a process that works for S seconds, whatever signals come:
                       child; setsid: a session of its own; daemon: double fork, its parent is init;
                       grandchild: the child of a child that waits for it
                       KIND:S:ignore works on and on; KIND:S:obey dies of SIGTERM;
                       KIND:S:after works until S seconds after SIGTERM
                       also POST /spawn?kind=setsid&seconds=5
  --wait-children      an orderly stop waits for them (else they outlive us)
/health
  --health MODE        honest (default), always-ok, never-ready: 503 for ever, missing: 404, error: 500,
                       refuse: the port is closed, hang: accepts and says nothing, garbage: 200 and broken JSON,
                       enormous: 50 MB, drip: a byte a second, banner: speaks first and no HTTP, silent: 200, empty,
                       impostor: ok, with the release and pid of somebody else
  --busy-key NAME      report work as NAME (busy)        --version-text V   "version" in /health and GET /

Files, one appended line for each fact
  $SIGNALS_FILE   "SIGTERM ROLE PID TIME" for each signal seen by this process and by each child
  $WORK_FILE      "done ROLE PID TIME NAME" when a task or a child has finished its work: the proof that it was not cut
  $STARTS_FILE    "start ROLE PID TIME" at the start of each process
ROLE is main or the KIND of --spawn; the process below a `grandchild` is a `leaf`.
"""

import json
import os
import signal
import socket
import sys
import threading
import time

FLAGS = ("wrong-port", "no-listen", "leak-socket", "wait-children")
OPTIONS = {
    "port": os.environ.get("PORT", ""),
    "boot": "0",
    "warmup": "0",
    "exit-at-once": "",
    "crash-after": "",
    "exit-code": "0",
    "stop-takes": "0",
    "on-term": "finish",
    "stop-signal": "SIGTERM",
    "quiet-signal": "",
    "at-start": "",
    "at-stop": "",
    "task": "",
    "spawn": "",
    "health": "honest",
    "busy-key": "busy",
    "version-text": "",
    "work": "",  # for a child of ours: KIND:SECONDS[:MANNER]
}


def parse(argv):
    """The options from the environment, then from the command line; an unknown one is an error."""
    options = {**OPTIONS, **dict.fromkeys(FLAGS, "")}
    for name in options:
        options[name] = os.environ.get("SERVICE_" + name.upper().replace("-", "_"), options[name])
    words = iter(argv)
    for word in words:
        name = word[2:]
        if not word.startswith("--") or name not in options:
            sys.exit(f"service.py: unknown option {word}")
        options[name] = "1" if name in FLAGS else next(words)
    return options


def note(variable, line):
    """Append one line to the file that *variable* names, in one write: many processes share it."""
    path = os.environ.get(variable)
    if path:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, (line + "\n").encode())
        os.close(fd)


def watch_signals(role, numbers):
    """Note every signal of *numbers*; they arrive in what is returned."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def seen(number, _frame):
        name = signal.Signals(number).name
        note("SIGNALS_FILE", f"{name} {role} {os.getpid()} {time.time():.3f}")
        os.write(1, f"{name} received by {role} {os.getpid()}\n".encode())

    for number in numbers:
        signal.signal(number, seen)
    # A handler that wrote the byte itself would lose the signal that comes just before the main thread blocks.
    signal.set_wakeup_fd(writer)
    return Signals(reader, writer)


class Signals:
    """The signals seen so far, one by one; `wake` adds a 0 to them."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def next(self):
        return os.read(self.reader, 1)[0]

    def wake(self):
        os.write(self.writer, b"\0")


# --- children -------------------------------------------------------------------------------------------------------


def spawn(request):
    """Start the process that `KIND:SECONDS[:ignore|:obey]` asks for; returns the pid of our own child."""
    kind = request.split(":")[0]
    pid = os.fork()
    if pid == 0:
        if kind in ("setsid", "daemon"):
            os.setsid()
        if kind == "daemon" and os.fork():
            os._exit(0)
        # One that is told to stop before it has its handler shall hear of it then, and not die.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        argv = [sys.executable, "-S", os.path.abspath(__file__), "--work", request]
        os.execv(argv[0], argv)
    if kind == "daemon":
        os.waitpid(pid, 0)
        return None
    return pid


def work(request):
    """What a child does: work for its seconds, whatever signals come, then say so and exit."""
    kind, seconds, manner = (request + ":").split(":")[:3]
    note("STARTS_FILE", f"start {kind} {os.getpid()} {time.time():.3f}")
    if manner == "obey":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    else:
        asked = watch_signals(kind, [signal.SIGTERM])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if kind == "grandchild":
        pid = spawn(f"leaf:{seconds}:{manner}")
        os.waitpid(pid, 0)
    else:
        if manner == "after":
            asked.next()
        until = time.monotonic() + (1e6 if manner == "ignore" else float(seconds))
        while time.monotonic() < until:
            time.sleep(max(0.0, min(1.0, until - time.monotonic())))
    note("WORK_FILE", f"done {kind} {os.getpid()} {time.time():.3f} {kind}")


# --- the service ----------------------------------------------------------------------------------------------------


class Service:
    """The state that requests and signals share."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Condition()
        self.tasks = {}
        self.enough = threading.Event()
        self.count = 0
        self.quiet = False
        self.stopping = False
        self.answering = 0
        self.children = []
        self.warm_at = time.monotonic() + float(options["warmup"])

    def run_task(self, name, seconds, after=None):
        """
        Work for *seconds*, or until *after* seconds after the end was asked for.

        Returns the task's id, or None when new work is refused.
        """
        with self.lock:
            if self.stopping or self.quiet:
                return None
            self.count += 1
            key = f"t{self.count}"
            enough = self.enough
            started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.tasks[key] = {"id": key, "name": name, "started_at": started}
        while after is not None and not (self.stopping or self.quiet or enough.wait(0.02)):
            pass
        enough.wait(seconds if after is None else after)
        note("WORK_FILE", f"done main {os.getpid()} {time.time():.3f} {name}")
        with self.lock:
            del self.tasks[key]
            self.lock.notify_all()
        return key

    def finish_tasks(self):
        """Let every task that is in flight be done."""
        with self.lock:
            self.enough.set()
            self.enough = threading.Event()

    def wait_idle(self):
        """Until no task is in flight and every task's answer has left."""
        with self.lock:
            while self.tasks or self.answering:
                self.lock.wait()

    def health(self):
        """Code and body of an honest answer."""
        starting = time.monotonic() < self.warm_at or self.options["health"] == "never-ready"
        with self.lock:
            status = "shutting_down" if self.stopping else "starting" if starting else "ok"
            tasks = list(self.tasks.values())
        code = 200 if status == "ok" else 503
        body = {"status": status, self.options["busy-key"]: len(tasks), "tasks": tasks}
        return code, {**body, **self.identity()}

    def identity(self):
        """Who answers."""
        known = {"pid": os.getpid(), "release": os.environ.get("DEPLOYER_RELEASE")}
        if self.options["version-text"]:
            known["version"] = self.options["version-text"]
        return known


def http(code, body, content_type="application/json"):
    """One whole HTTP answer; the connection ends with it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {code} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + data


def answer_health(service, connection):
    """Answer /health in the mode that was asked for."""
    mode = service.options["health"]
    if mode == "hang":
        time.sleep(1e6)
    elif mode == "drip":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(1)
    elif mode == "enormous":
        size = 50_000_000
        connection.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        for _ in range(50):
            connection.sendall(b" " * (size // 50))
    else:
        connection.sendall(short_health(service, mode))


def short_health(service, mode):
    """The answer of the modes that end by themselves."""
    if mode == "missing":
        return http(404, {"error": "not found"})
    if mode == "error":
        return http(500, {"error": "migrations pending"})
    if mode == "garbage":
        return http(200, b'{"status": "ok", \xff\xfe"tasks": [{]]')
    if mode == "silent":
        return http(200, b"")
    if mode == "always-ok":
        return http(200, {"status": "ok"})
    if mode == "impostor":
        return http(200, {"status": "ok", "pid": 1, "release": "20010101T000000Z-000000"})
    return http(*service.health())


def query(target):
    """The path and the parameters of a request's target."""
    path, _, text = target.partition("?")
    return path, dict(pair.partition("=")[::2] for pair in text.split("&") if pair)


def answer(service, connection, method, target):
    """Answer one request."""
    path, values = query(target)
    if path == "/health":
        answer_health(service, connection)
    elif (method, path) == ("POST", "/task"):
        with service.lock:
            service.answering += 1
        try:
            after = float(values["after"]) if "after" in values else None
            key = service.run_task(values.get("name", "callClaude"), float(values.get("seconds", "1")), after)
            body = {"task": key, "result": "done"} if key else {"error": "shutting down"}
            connection.sendall(http(200 if key else 503, {**body, **service.identity()}))
        finally:
            with service.lock:
                service.answering -= 1
                service.lock.notify_all()
    elif (method, path) == ("POST", "/finish"):
        service.finish_tasks()
        connection.sendall(http(200, service.identity()))
    elif (method, path) == ("POST", "/spawn"):
        pid = spawn(f"{values.get('kind', 'child')}:{values.get('seconds', '5')}")
        service.children += [pid] if pid else []
        connection.sendall(http(200, {"pid": pid}))
    elif path == "/":
        connection.sendall(http(200, service.identity()))
    else:
        connection.sendall(http(404, {"error": "not found"}))


def handle(service, connection):
    """One connection, one request."""
    try:
        if service.options["health"] == "banner":
            connection.sendall(b"220 mail.example.com ESMTP\r\n")
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return
            data += piece
        words = data.split(b"\r\n", 1)[0].decode("latin-1").split()
        if service.options["health"] != "banner" and len(words) >= 2:
            answer(service, connection, words[0], words[1])
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    finally:
        connection.close()


def serve(service, listener):
    """Accept for ever: every connection gets a thread."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(service, connection), daemon=True).start()


def listen(options):
    """The listening socket that the options ask for, if any."""
    inherited = os.environ.get("LISTEN_FDS") and os.environ.get("LISTEN_PID") == str(os.getpid())
    if inherited:
        os.set_inheritable(3, False)
    if options["no-listen"] or options["health"] == "refuse":
        return None
    if inherited:
        listener = socket.socket(fileno=3)
        listener.setblocking(True)
    elif options["port"]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0 if options["wrong-port"] else int(options["port"])))
        listener.listen(128)
    else:
        return None
    listener.set_inheritable(bool(options["leak-socket"]))
    return listener


def crash_later(seconds):
    """Die of a bug after *seconds*."""
    time.sleep(seconds)
    os.write(2, b"Traceback (most recent call last):\nRuntimeError: the sky is falling\n")
    os._exit(3)


def main():
    options = parse(sys.argv[1:])
    if options["work"]:
        work(options["work"])
        return
    note("STARTS_FILE", f"start main {os.getpid()} {time.time():.3f}")
    if options["exit-at-once"]:
        print("fatal: cannot open the database: no such file", file=sys.stderr)
        sys.exit(int(options["exit-at-once"]))
    sys.exit(run(Service(options), options))


def run(service, options):
    """Serve until the stop signal has done what it is set to do; returns the exit code."""
    quiet = signal.Signals[options["quiet-signal"]] if options["quiet-signal"] else None
    stop = signal.Signals[options["stop-signal"]]
    watched = {signal.SIGTERM, stop} | ({quiet} if quiet else set())
    if options["on-term"] == "default":
        watched.discard(stop)
    signals = watch_signals("main", watched)
    if options["at-start"].startswith("say "):
        print(options["at-start"][4:], flush=True)
    elif options["at-start"]:
        os.system(options["at-start"])
    time.sleep(float(options["boot"]))
    listener = listen(options)
    service.children = [pid for request in options["spawn"].split(",") if request and (pid := spawn(request))]
    if listener:
        threading.Thread(target=serve, args=(service, listener), daemon=True).start()
    if options["crash-after"]:
        threading.Thread(target=crash_later, args=(float(options["crash-after"]),), daemon=True).start()
    if options["task"]:
        threading.Thread(target=service.run_task, args=("callClaude", float(options["task"])), daemon=True).start()
    print(f"serving, pid {os.getpid()}, release {os.environ.get('DEPLOYER_RELEASE')}", flush=True)

    while True:
        number = signals.next()
        if number == quiet:
            service.quiet = True
        if number == stop and options["on-term"] != "ignore":
            return finish(service, options, signals)


def finish(service, options, signals):
    """The orderly stop, or the disorderly one."""
    if options["on-term"] != "now":
        service.stopping = True
        # In a thread: the main thread must stay free to note a second signal.
        threading.Thread(target=lambda: (tidy(service, options), signals.wake()), daemon=True).start()
        while signals.next() != 0:
            pass
    sys.stdout.flush()
    os._exit(int(options["exit-code"]))


def tidy(service, options):
    """What an orderly stop waits for."""
    service.wait_idle()
    if options["wait-children"]:
        for pid in service.children:
            os.waitpid(pid, 0)
    if options["at-stop"]:
        os.system(options["at-stop"])
    time.sleep(float(options["stop-takes"]))


if __name__ == "__main__":
    main()
