// A lame duck: an http.Server that was told to stop, and loses nobody while it goes. Copy this file into your app.
//
//   const server = http.createServer(app);               // Express too: http.createServer(expressApp)
//   lameDuck(server);                                     // before listen
//   server.listen(process.env.LISTEN_FDS ? { fd: 3 } : 3000);
//
// On SIGTERM it stops accepting (on a shared socket the next process gets them), answers what was accepted, says
// `Connection: close` in each answer, lets idle connections linger, so that a request on its way is not met by a closed door,
// finishes what is in flight, then calls `done` (default: exit 0). With strategy = "restart" the linger is part of the gap:
// lameDuck(server, { linger: 300 }). WebSockets are yours to close: `server.leaving` says when. Node 18 or newer.
"use strict";
const net = require("net");
const tls = require("tls");

const TURN = 50; // ms

// `linger`: ms that a connection which was used before may stay idle; `unread`: one that has never sent anything, since whoever
// has just connected is about to ask. Both count in turns of the loop: a machine that stalls takes no time from them.
function lameDuck(server, { linger = 1000, unread = 5000, signal = "SIGTERM", done = () => process.exit(0) } = {}) {
  const connections = new Map();
  server.leaving = false;

  server.on(server instanceof tls.Server ? "secureConnection" : "connection", (socket) => {
    connections.set(socket, { answers: new Set(), used: false, read: 0, patience: unread });
    socket.on("close", () => connections.delete(socket));
  });

  server.prependListener("request", (request, response) => {
    const connection = connections.get(request.socket);
    if (!connection) return;
    connection.answers.add(response);
    if (server.leaving) response.shouldKeepAlive = false;
    response.on("close", () => {
      connection.answers.delete(response);
      Object.assign(connection, { used: true, read: request.socket.bytesRead, patience: linger });
    });
  });

  function closeTheIdle() {
    for (const [socket, connection] of connections) {
      const asks = connection.answers.size > 0 || socket.bytesRead !== connection.read;
      if (asks) continue;
      connection.patience -= TURN;
      if (connection.patience < 0) socket.destroySoon();
    }
  }

  function leave() {
    if (server.leaving) return;
    server.leaving = true;
    for (const { answers } of connections.values()) {
      for (const response of answers) response.shouldKeepAlive = false;
    }
    const closing = setInterval(closeTheIdle, TURN);
    // Not http.Server's own close(): it ends idle connections at once. Never shutdown(): the socket is another process' too.
    net.Server.prototype.close.call(server, () => {
      clearInterval(closing);
      done();
    });
  }

  process.on(signal, leave);
  return leave;
}

module.exports = { lameDuck };
