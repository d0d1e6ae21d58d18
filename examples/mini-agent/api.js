// mini-agent: a small service with long tasks, in Node without packages. `api.py` is the same in Python.
//
//   POST /task {"name": "callClaude", "seconds": 20}   works, then answers with the result
//   GET  /health                                        what deployer reads (docs: the /health contract)
//
// On SIGTERM it takes no new task, finishes those in flight (for up to ten minutes), and exits.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

const MAX_WAIT = 10 * 60 * 1000; // longer than the longest task, shorter than deployer's ceiling
const version = readVersion();
const tasks = new Map();
let count = 0;
let stopping = false;

function readVersion() {
  try {
    return fs.readFileSync(path.join(__dirname, "VERSION"), "utf8").trim();
  } catch {
    return "dev";
  }
}

function answer(response, code, body) {
  response.writeHead(code, { "Content-Type": "application/json", Connection: "close" });
  response.end(JSON.stringify(body) + "\n");
}

function health(response) {
  answer(response, stopping ? 503 : 200, {
    status: stopping ? "shutting_down" : "ok",
    busy: tasks.size,
    tasks: [...tasks.values()],
    release: process.env.DEPLOYER_RELEASE,
    version,
    pid: process.pid,
  });
}

function work(response, { name = "callClaude", seconds = 1 }) {
  if (stopping) return answer(response, 503, { error: "shutting down, try again in a moment" });
  const id = `t${++count}`;
  tasks.set(id, { id, name, started_at: new Date().toISOString() });
  response.on("close", () => finished(id)); // only now has the answer left
  setTimeout(() => {
    const result = { task: id, name, result: `${name} thought for ${seconds} s`, version, pid: process.pid };
    if (process.env.RESULTS_FILE) fs.appendFileSync(process.env.RESULTS_FILE, JSON.stringify(result) + "\n");
    answer(response, 200, result);
  }, seconds * 1000);
}

// A task whose client has gone is over for /health too, as in most services.
function finished(id) {
  tasks.delete(id);
  exitWhenIdle();
}

function exitWhenIdle() {
  if (stopping && tasks.size === 0) process.exit(0);
}

function readJson(request, then) {
  let text = "";
  request.on("data", (piece) => (text += piece));
  request.on("end", () => {
    try {
      then(JSON.parse(text || "{}"));
    } catch {
      then(null);
    }
  });
}

const server = http.createServer((request, response) => {
  if (request.method === "GET" && request.url === "/health") return health(response);
  if (request.method !== "POST" || request.url !== "/task") return answer(response, 404, { error: "not found" });
  readJson(request, (task) => (task ? work(response, task) : answer(response, 400, { error: "not JSON" })));
});

process.on("SIGTERM", () => {
  console.log(`${new Date().toISOString()} SIGTERM: ${tasks.size} task(s) in flight`);
  if (!stopping) setTimeout(() => process.exit(1), MAX_WAIT);
  stopping = true;
  exitWhenIdle();
});

// A socket held by the supervisor (fd 3) outlives us: nobody is refused while a release is replaced.
const inherited = process.env.LISTEN_FDS && process.env.LISTEN_PID === String(process.pid);
server.listen(inherited ? { fd: 3 } : { host: "127.0.0.1", port: Number(process.env.PORT || 3001) }, () => {
  console.log(`${new Date().toISOString()} mini-agent ${version} serves, pid ${process.pid}`);
});
