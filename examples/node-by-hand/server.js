// The contract by hand, in any language: tell your work in /health; on SIGTERM take no more, finish it, exit with 0.
"use strict";
const fs = require("fs");
const http = require("http");

const MAX_WAIT = 10 * 60 * 1000; // ms; longer than the longest task, shorter than drain.ceiling
const tasks = new Map();
let leaving = false;

async function task(name, work) {
  const id = String(Date.now() + Math.random());
  tasks.set(id, { id, name, started_at: new Date().toISOString() });
  try {
    return await work();
  } finally {
    tasks.delete(id);
    if (leaving) leave();
  }
}

const server = http.createServer(async (request, response) => {
  const say = (code, body) => {
    response.writeHead(code, { "Content-Type": "application/json", ...(leaving && { Connection: "close" }) });
    response.end(JSON.stringify(body));
  };
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const who = { release: process.env.DEPLOYER_RELEASE, pid: process.pid };
  if (pathname === "/health") {
    return say(leaving ? 503 : 200, { status: leaving ? "shutting_down" : "ok", busy: tasks.size, tasks: [...tasks.values()], ...who });
  }
  if (request.method !== "POST") return say(200, who);
  if (leaving) return say(503, { error: "shutting down" });
  await task("report", async () => {
    await new Promise((done) => setTimeout(done, 1000 * searchParams.get("seconds"))); // stands for your work
    fs.writeFileSync(`results/${searchParams.get("name")}.json`, JSON.stringify(who));
  });
  say(200, who);
});

function leave() {
  server.closeIdleConnections();
  if (tasks.size === 0) setTimeout(() => process.exit(0), 100); // the last answer is on its way
}

process.on("SIGTERM", () => {
  if (!leaving) setTimeout(() => process.exit(1), MAX_WAIT);
  leaving = true;
  leave();
});

server.listen(process.env.LISTEN_FDS ? { fd: 3 } : Number(process.env.PORT || 3004)); // fd 3: held by deployer through the gap
