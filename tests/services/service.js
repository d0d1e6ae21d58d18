// The Node twin of service.py, with its basics only: what tests deploy where the runtime matters (npm start, wrappers).
//
//   PORT or fd 3 (LISTEN_FDS) · POST /task?seconds=S&name=N · GET /health · SIGTERM: refuse new tasks, finish those in
//   flight, exit 0 · IGNORE_TERM=1: note SIGTERM and go on · BOOT_SECONDS=S
//   $SIGNALS_FILE, $WORK_FILE and $STARTS_FILE: one appended line for each fact, as in service.py
"use strict";
const fs = require("fs");
const http = require("http");

const tasks = new Map();
let count = 0;
let stopping = false;

function note(variable, line) {
  if (process.env[variable]) fs.appendFileSync(process.env[variable], line + "\n");
}

const now = () => (Date.now() / 1000).toFixed(3);

function answer(response, code, body) {
  response.writeHead(code, { "Content-Type": "application/json", Connection: "close" });
  response.end(JSON.stringify({ ...body, pid: process.pid, release: process.env.DEPLOYER_RELEASE }));
}

function health(response) {
  const status = stopping ? "shutting_down" : "ok";
  answer(response, stopping ? 503 : 200, { status, busy: tasks.size, tasks: [...tasks.values()] });
}

function runTask(response, seconds, name) {
  if (stopping) return answer(response, 503, { error: "shutting down" });
  const id = `t${++count}`;
  tasks.set(id, { id, name, started_at: new Date().toISOString() });
  setTimeout(() => {
    note("WORK_FILE", `done main ${process.pid} ${now()} ${name}`);
    response.on("close", () => {
      tasks.delete(id);
      exitWhenIdle();
    });
    answer(response, 200, { task: id, result: "done" });
  }, seconds * 1000);
}

function exitWhenIdle() {
  if (stopping && tasks.size === 0) process.exit(0);
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  if (url.pathname === "/health") return health(response);
  if (request.method === "POST" && url.pathname === "/task") {
    return runTask(response, Number(url.searchParams.get("seconds") || 1), url.searchParams.get("name") || "callClaude");
  }
  answer(response, url.pathname === "/" ? 200 : 404, {});
});

process.on("SIGTERM", () => {
  note("SIGNALS_FILE", `SIGTERM main ${process.pid} ${now()}`);
  if (process.env.IGNORE_TERM) return;
  stopping = true;
  exitWhenIdle();
});

note("STARTS_FILE", `start main ${process.pid} ${now()}`);
setTimeout(() => {
  const inherited = process.env.LISTEN_FDS && process.env.LISTEN_PID === String(process.pid);
  server.listen(inherited ? { fd: 3 } : { port: Number(process.env.PORT), host: "127.0.0.1" });
}, Number(process.env.BOOT_SECONDS || 0) * 1000);
