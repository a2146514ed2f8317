'use strict';
// The same requests through the addon of c-tests/node, undici.request, fetch, http.request with a keep-alive agent, and
// node-libcurl where it has been built, on the same libcurl as the addon. `make bench-node` runs it; nginx serves. Each run is
// a process of its own; the clients take turns, so that a slow minute of the machine falls on all of them, and what is printed
// are medians and their ratios to undici.request.
const { spawnSync } = require('node:child_process');
const http = require('node:http');
const path = require('node:path');
const { performance } = require('node:perf_hooks');

const base = `http://127.0.0.1:${process.env.UVCURL_TEST_NGINX_HTTP}`;
const clients = {
  uvcurl() {
    const { fetch } = require('../../c-tests/node/fetch.js');
    return async (url) => (await fetch(url, { http: '1.1' })).body.length;
  },
  undici(parallel) {
    const undici = require(process.env.UVCURL_BENCH_UNDICI);
    const dispatcher = new undici.Agent({ connections: parallel });
    return async (url) => (await (await undici.request(url, { dispatcher })).body.arrayBuffer()).byteLength;
  },
  fetch() {
    return async (url) => (await (await fetch(url)).arrayBuffer()).byteLength;
  },
  http(parallel) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: parallel });
    return (url) => new Promise((resolve, reject) => {
      http.get(url, { agent }, (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('end', () => resolve(Buffer.concat(parts).length));
        response.on('error', reject);
      }).on('error', reject);
    });
  },
  // One request after another through each of its handles, as with the pool of the others; `curly` makes one per request.
  'node-libcurl'() {
    const { Curl, CurlFeature } = require(process.env.UVCURL_BENCH_NODE_LIBCURL);
    const idle = [];
    return (url) => new Promise((resolve, reject) => {
      let curl = idle.pop();
      if (!curl) {
        curl = new Curl();
        curl.enable(CurlFeature.NoDataParsing);
      }
      curl.setOpt('URL', url);
      curl.removeAllListeners('end').removeAllListeners('error');
      curl.on('end', (status, data) => idle.push(curl) && resolve(data.length));
      curl.on('error', reject);
      curl.perform();
    });
  },
};
if (!process.env.UVCURL_BENCH_NODE_LIBCURL) delete clients['node-libcurl'];

async function run(client, file, parallel, count) {
  const request = clients[client](parallel);
  const url = `${base}/${file}`;
  const size = { '1k': 1024, '100k': 102400 }[file];
  let left = 0;
  let times = [];
  const loop = async () => {
    while (left-- > 0) {
      const start = performance.now();
      if ((await request(url)) !== size) throw new Error('another body');
      times.push(performance.now() - start);
    }
  };
  const all = (n) => {
    left = n;
    times = [];
    return Promise.all(Array.from({ length: parallel }, loop));
  };
  await all(Math.ceil(count / 5)); // compiled and connected
  const cpu = process.cpuUsage();
  const start = performance.now();
  await all(count);
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({
    rate: count / seconds,
    cpu: (used.user + used.system) / count,
    p99: times[Math.floor(times.length * 0.99)],
    rss: process.resourceUsage().maxRSS / 1024,
  }));
  process.exit(0);
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

function compare() {
  const rounds = Number(process.env.UVCURL_BENCH_ROUNDS || 5);
  const version = (folder) => require(path.join(folder, 'package.json')).version;
  const peer = process.env.UVCURL_BENCH_NODE_LIBCURL;
  console.log(`Node ${process.version}, undici ${version(process.env.UVCURL_BENCH_UNDICI)}, ` +
    `${peer ? `node-libcurl ${version(peer)}` : 'without node-libcurl, which was not built'}, ${rounds} rounds`);
  for (const [file, parallel, count] of [['1k', 1, 3000], ['1k', 50, 20000], ['1k', 500, 20000], ['100k', 50, 5000]]) {
    const runs = Object.fromEntries(Object.keys(clients).map((client) => [client, []]));
    for (let round = 0; round < rounds; round++) {
      for (const client of Object.keys(clients)) {
        const { stdout, stderr, status } = spawnSync(process.execPath, [__filename, client, file, parallel, count], { encoding: 'utf8' });
        if (status !== 0) throw new Error(`${client}: ${stderr}`);
        runs[client].push(JSON.parse(stdout));
      }
    }
    console.log(`\n${file}, ${parallel} at a time\n`);
    console.log('| client | requests/s | CPU per request | p99 | memory (peak RSS) |\n|---|---|---|---|---|');
    const middle = (client, what) => median(runs[client].map((one) => one[what]));
    const cell = (client, what, unit, digits) =>
      `${middle(client, what).toFixed(digits)}${unit} (${(middle(client, what) / middle('undici', what)).toFixed(2)})`;
    for (const client of Object.keys(clients)) {
      console.log(`| ${client} | ${cell(client, 'rate', '', 0)} | ${cell(client, 'cpu', ' µs', 0)} | ${cell(client, 'p99', ' ms', 1)} | ${cell(client, 'rss', ' MB', 0)} |`);
    }
  }
}

const [client, file, parallel, count] = process.argv.slice(2);
if (client) run(client, file, Number(parallel), Number(count));
else compare();
