'use strict';
// Refuses an addon that is not linked as it must be inside Node: check.js FOLDER ADDON ... docs/node.md says why.
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

function refusal(file) {
  let text;
  try {
    text = execFileSync('readelf', ['-W', '-d', '--dyn-syms', file], {
      encoding: 'latin1', maxBuffer: 1 << 28, env: { ...process.env, LC_ALL: 'C' },
    });
  } catch (error) {
    return `cannot be looked at: ${error.code === 'ENOENT' ? 'readelf is missing, install binutils' : error.message}`;
  }
  const needed = [...text.matchAll(/\(NEEDED\).*\[(lib(?:curl|uv|uvcurl)\b[^\]]*)\]/g)].map(([, name]) => name);
  // Num, value, size, type, binding, visibility, section, name
  const symbols = [...text.matchAll(/^ *\d+: +\S+ +\S+ +\S+ +(?:GLOBAL|WEAK) +\S+ +(\S+) +([^@\s]+)/gm)];
  const names = (test, open) => symbols.filter(([, section, name]) => test.test(name) && (section === 'UND') === open).map(([, , name]) => name);
  const few = (list) => list.slice(0, 3).join(', ') + (list.length > 3 ? ` and ${list.length - 3} more` : '');

  if (needed.length) {
    return `links ${needed.join(' and ')}. An addon must not bring another libuv or libcurl: Node has the libuv, ` +
      'libuvcurl_node.a the libcurl, and a libcurl.so of the system would run half on its own OpenSSL and half on Node\'s. ' +
      'Take it out of "libraries"';
  }
  const open = names(/^(uv)?curl_/, true);
  if (open.length) return `leaves ${few(open)} open, which Node does not have: link libuvcurl_node.a`;
  if (!names(/^uv_/, true).length) {
    return 'takes nothing of libuv from Node, so there is a second libuv inside, or no uvcurl: link libuvcurl_node.a, and no ' +
      'other libuv or uvcurl';
  }
  const visible = names(/^((uv)?curl|uv|nghttp2)_/, false);
  if (visible.length) {
    return `lets others see ${few(visible)}, so that another copy may take their place: link with -Wl,--exclude-libs,ALL`;
  }
  return null;
}

const [folder, ...addons] = process.argv.slice(2);
for (const addon of addons) {
  const file = path.join(folder, `${addon}.node`);
  const why = refusal(file);
  if (!why) continue;
  console.error(`uvcurl: ${addon}.node ${why}. It has been removed.`);
  fs.rmSync(file, { force: true });
  process.exitCode = 1;
}
