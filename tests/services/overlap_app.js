// The Node twin of overlap_app.py: the same paths, the same variables, the same ways to be broken. No packages.
// STOP_SIGNAL=SIGINT and the message "ready" are for PM2, whose words these are.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

// In an artifact the helper lies beside us.
const beside = path.join(__dirname, "lame_duck.js");
const helper = fs.existsSync(beside) ? beside : path.join(__dirname, "../../examples/lame_duck/lame_duck.js");
const { lameDuck } = require(helper);

const { BROKEN = "", BOOT = "0", LINGER = "1", GENERATION, STOP_SIGNAL = "SIGTERM" } = process.env;
const STREAM_EVERY = 100;
let working = 0;

function identity() {
  const told = { release: process.env.DEPLOYER_RELEASE || "none", pid: process.pid };
  if (BROKEN === "wrong") Object.assign(told, { release: "20200101T000000Z-000000", pid: 1 });
  return GENERATION === undefined ? told : { ...told, generation: GENERATION };
}

function say(response, code, body) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  response.writeHead(code, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

function stream(response, seconds) {
  response.writeHead(200, { "Content-Type": "text/plain" });
  const until = Date.now() + seconds * 1000;
  const line = () => {
    if (Date.now() >= until) {
      clearInterval(timer);
      return response.end();
    }
    response.write(JSON.stringify(identity()) + "\n");
  };
  const timer = setInterval(line, STREAM_EVERY);
  line();
  response.on("close", () => clearInterval(timer));
}

const server = http.createServer((request, response) => {
  if (BROKEN === "hang") return;
  if (BROKEN === "500" || BROKEN === "503") return say(response, Number(BROKEN), { error: "broken" });
  if (BROKEN === "garbage") return say(response, 200, '{"status": "o');
  const url = new URL(request.url, "http://127.0.0.1");
  const seconds = Number(url.searchParams.get("seconds") || 1);
  if (url.pathname === "/health") {
    const status = server.leaving ? "shutting_down" : "ok";
    return say(response, server.leaving ? 503 : 200, { status, busy: working, ...identity() });
  }
  if (url.pathname === "/slow" || url.pathname === "/stream") {
    working++;
    response.on("close", () => working--);
    if (url.pathname === "/stream") return stream(response, seconds);
    return setTimeout(() => say(response, 200, identity()), seconds * 1000);
  }
  say(response, url.pathname === "/" ? 200 : 404, identity());
});

if (process.env.LAME_DUCK === "0") {
  // What most servers do with SIGTERM, for comparison: idle connections are ended at once.
  process.on(STOP_SIGNAL, () => {
    server.leaving = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
} else {
  lameDuck(server, { linger: Number(LINGER) * 1000, signal: STOP_SIGNAL });
}

if (BROKEN === "exit") {
  console.error("overlap_app: told to be broken");
  process.exit(1);
}
if (BROKEN.startsWith("crash-after-")) setTimeout(() => process.exit(3), Number(BROKEN.slice(12)) * 1000);

server.on("listening", () => process.send && process.send("ready"));
setTimeout(() => {
  if (process.env.LISTEN_PID === String(process.pid)) server.listen({ fd: 3 });
  else server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 1024 });
}, Number(BOOT) * 1000);
