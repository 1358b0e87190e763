// The HTTP side: what happens to a request before lite sees it, and to the answer after.

import { createServer } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { withinRequest } from './context.mjs';
import { answerOfStaleConnection, mendAnswer, refuse } from './errors.mjs';
import { protectNumbers } from './numbers.mjs';
import { forgiveSkew } from './tokens.mjs';

const restPath = '/rest/v1/';
const storagePath = '/storage/v1/';
const sqlPath = '/testbed/sql';

/** Listens on loopback and answers with the port. `answerStorage` is missing where there is no Storage. */
export function listen(app, database, options, answerStorage) {
  const answer = async (incoming, outgoing) => {
    const { pathname } = new URL(incoming.url, 'http://localhost');
    if (answerStorage && pathname.startsWith(storagePath)) return answerStorage(incoming, outgoing);
    const body = await readBody(incoming);
    if (pathname === sqlPath) return send(outgoing, await answerSql(incoming, body, database, options));
    const peer = { peerAddress: incoming.socket.remoteAddress ?? null };
    const isRest = pathname.startsWith(restPath);
    if (isRest && database.takeStaleConnection()) return send(outgoing, answerOfStaleConnection());
    const request = await mendRequest(incoming, body, options);
    const state = { body, isJson: !/csv|urlencoded|octet|text\/plain/.test(incoming.headers['content-type'] ?? '') };
    const response = await database.exclusively(() =>
      isRest ? withinRequest(state, () => app.fetch(request, peer)) : app.fetch(request, peer),
    );
    return send(outgoing, await mendAnswer(response, state.error), response.ok ? state.status : undefined);
  };

  const server = createServer({ maxHeaderSize: options.max_head_bytes }, (incoming, outgoing) =>
    answer(incoming, outgoing).catch((error) => {
      process.stderr.write(`test server: ${error?.stack ?? error}\n`);
      outgoing.destroy();
    }),
  );
  server.keepAliveTimeout = options.keep_alive_ms;
  // Otherwise Node would end a connection whose next head takes as long as the client may wait between two requests.
  server.headersTimeout = options.keep_alive_ms + 5_000;
  server.on('clientError', refuseHead);
  return new Promise((resolve, reject) =>
    server.on('error', reject).listen(options.port, '127.0.0.1', () => resolve(server.address().port)),
  );
}

async function readBody(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  if (chunks.length === 0) return undefined;
  const body = Buffer.concat(chunks);
  // As some gateways do; PostgREST alone would refuse it.
  return (incoming.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString('utf8');
}

async function mendRequest(incoming, body, options) {
  const headers = new Headers();
  for (let i = 0; i < incoming.rawHeaders.length; i += 2)
    if (!/^(connection|keep-alive|transfer-encoding|content-length|content-encoding|expect)$/i.test(incoming.rawHeaders[i]))
      headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1]);
  await forgiveSkew(headers, options.jwt_secret);
  ignoreTransactionPreference(headers);
  const address = protectNumbers(`http://${incoming.headers.host ?? 'localhost'}${incoming.url}`);
  const method = incoming.method;
  return new Request(address, { method, headers, body: ['GET', 'HEAD'].includes(method) ? undefined : body });
}

async function send(outgoing, response, status = response.status) {
  // A PUT that returns nothing stays 204 when it updated.
  outgoing.statusCode = response.status === 204 ? 204 : status;
  for (const [name, value] of response.headers) if (name !== 'content-length') outgoing.appendHeader(name, value);
  const body = Buffer.from(await response.arrayBuffer());
  const length = outgoing.req.method === 'HEAD' ? (response.headers.get('content-length') ?? body.length) : body.length;
  if (outgoing.statusCode !== 204) outgoing.setHeader('content-length', length);
  outgoing.end(body);
}

// lite says that it rolled back, and commits. PostgREST, unless it is told otherwise, ignores this preference.
function ignoreTransactionPreference(headers) {
  const prefer = headers.get('prefer');
  if (prefer?.includes('tx=')) headers.set('prefer', prefer.split(',').filter((p) => !p.trim().startsWith('tx=')).join(','));
}

/** A head that is too long gets plain text, not JSON: clients must not choke on that. */
function refuseHead(error, socket) {
  if (!socket.writable) return socket.destroy();
  const text = error.code === 'HPE_HEADER_OVERFLOW' ? 'Request header fields too large' : 'Bad Request';
  socket.end(`HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`);
}

/** Plain SQL for tests, since a database inside this process has no other door. Rows are lists of texts. */
async function answerSql(incoming, sql, database, { secret_key }) {
  if (incoming.headers.apikey !== secret_key) return refuse(401, 'TESTBED', 'the secret key opens this');
  const isScript = incoming.headers['x-script'] !== undefined;
  try {
    const result = await database.exclusively(() => (isScript ? database.script(sql) : database.query(sql)));
    return Response.json(isScript ? [] : result.rows);
  } catch (error) {
    return refuse(400, error.code ?? 'TESTBED', error.message);
  }
}
