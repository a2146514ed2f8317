'use strict';
// Servers of Node's own, on the loop of the test, and children that end in some way.
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const net = require('node:net');
const path = require('node:path');
const zlib = require('node:zlib');

const certs = process.env.UVCURL_TEST_CERTS;
const ca = certs && fs.readFileSync(path.join(certs, 'ca.pem'));
const identity = () => ({
  key: fs.readFileSync(path.join(certs, 'server.key')),
  cert: fs.readFileSync(path.join(certs, 'server.pem')),
});

// Byte i of what nginx serves, and of /bytes here: server_byte() of c-tests/support/server.c.
const period = Buffer.from(Array.from({ length: 65521 }, (_, at) => (at * 167 + (at >> 8) * 13) & 255));
function bytes(size) {
  return Buffer.alloc(size, period);
}

async function body(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

// What the servers do, by path. `hang` and `drip` never end; server.waiting has their responses.
async function serve(server, request, response) {
  const url = new URL(request.url, 'http://x');
  const [, what, argument] = url.pathname.split('/');
  switch (what) {
    case 'echo': {
      const received = await body(request);
      response.setHeader('x-method', request.method);
      response.setHeader('x-headers', JSON.stringify(request.headers));
      return response.end(received);
    }
    case 'bytes': {
      const size = Number(argument);
      for (let at = 0; at < size && !response.destroyed; at += 65521) {
        server.written = at;
        // Where the kernel takes all of it, nobody else would have a turn.
        await new Promise(setImmediate);
        if (!response.write(period.subarray(0, size - at))) {
          await new Promise((resolve) => {
            const go = () => response.off('drain', go).off('close', go) && resolve();
            response.on('drain', go).on('close', go);
          });
        }
      }
      return response.end();
    }
    case 'status':
      response.statusCode = Number(argument);
      return response.end(argument === '204' || argument === '304' ? undefined : 'of its own');
    case 'redirect':
      response.writeHead(302, { location: '/text/there' });
      return response.end('moved');
    case 'cookies':
      response.setHeader('set-cookie', ['a=1', 'b=2']);
      response.setHeader('x-empty', '');
      return response.end();
    case 'early':
      response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      return response.end('late');
    case 'gzip':
      response.setHeader('content-encoding', 'gzip');
      return response.end(zlib.gzipSync('unpacked '.repeat(1000)));
    case 'hang':
      server.waiting.push(response);
      return server.emit('waiting', response);
    case 'drip':
      response.write('the first part');
      server.waiting.push(response);
      return server.emit('waiting', response);
    case 'cut':
      if (argument === 'body') {
        response.writeHead(200, { 'content-length': '1000' });
        response.write('the first part', () => request.socket.destroy());
        return;
      }
      return request.socket.destroy();
    default:
      return response.end(`hello ${url.pathname}`);
  }
}

async function listen(server, scheme, t) {
  server.waiting = [];
  const sockets = new Set();
  server.on(scheme === 'http' ? 'connection' : 'secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('request', (request, response) => {
    serve(server, request, response).catch((error) => response.destroy(error));
  });
  // A thousand connect at once: where the queue overflows, the kernel may reset some.
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  server.url = `${scheme}://127.0.0.1:${server.address().port}`;
  server.sockets = sockets;
  t.after(async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    for (const session of server.sessions ?? []) session.destroy();
    await once(server, 'close');
  });
  return server;
}

const httpServer = (t) => listen(http.createServer({ keepAliveTimeout: 60000 }), 'http', t);
const httpsServer = (t) => listen(https.createServer({ ...identity(), keepAliveTimeout: 60000 }), 'https', t);

async function http2Server(t, secure = true) {
  const server = secure ? http2.createSecureServer(identity()) : http2.createServer();
  server.sessions = new Set();
  server.sessionCount = 0;
  server.on('session', (session) => {
    server.sessionCount++;
    server.sessions.add(session);
    session.on('close', () => server.sessions.delete(session));
  });
  return listen(server, secure ? 'https' : 'http', t);
}

// A port on which nobody listens.
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

// Waits until `count` requests hang in the server.
async function waiting(server, count) {
  while (server.waiting.length < count) await once(server, 'waiting');
}

// Runs child.js, under valgrind if UVCURL_TEST_VALGRIND is valgrind's options; its end is { code, signal, out, err }. A child
// that hangs is killed, which is its signal.
function child(scenario, url, options = {}) {
  const valgrind = process.env.UVCURL_TEST_VALGRIND;
  const [command, ...args] = [...(valgrind ? ['valgrind', ...valgrind.trim().split(/\s+/)] : []), process.execPath];
  const process_ = spawn(command, [...args, path.join(__dirname, 'child.js'), scenario, url ?? '', ...(options.args ?? [])],
  { env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env }, stdio: ['pipe', 'pipe', 'pipe'] });
  const limit = setTimeout(() => process_.kill('SIGKILL'), valgrind ? 600000 : 120000);
  let out = '';
  let err = '';
  process_.stdout.on('data', (data) => (out += data));
  process_.stderr.on('data', (data) => (err += data));
  process_.ended = new Promise((resolve) => process_.on('close', (code, signal) => {
    clearTimeout(limit);
    resolve({ code, signal, out, err });
  }));
  return process_;
}

module.exports = { bytes, body, ca, certs, child, freePort, httpServer, httpsServer, http2Server, waiting };
