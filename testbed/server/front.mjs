// The HTTP side: what happens to a request before lite sees it, and to the answer after.

import { serve } from '@hono/node-server';
import { withinRequest } from './context.mjs';
import { answerOfStaleConnection, mendAnswer, refuse } from './errors.mjs';
import { protectNumbers } from './numbers.mjs';
import { forgiveSkew } from './tokens.mjs';

const restPath = '/rest/v1/';
const sqlPath = '/testbed/sql';

/** Listens on loopback and answers with the port. */
export function listen(app, database, options) {
  const answer = (request, environment) => {
    const { pathname } = new URL(request.url);
    const peer = { peerAddress: environment.incoming.socket.remoteAddress ?? null };
    if (pathname === sqlPath) return answerSql(request, database, options);
    const work = () => (pathname.startsWith(restPath) ? answerRest(request, peer) : app.fetch(request, peer));
    return database.exclusively(work);
  };

  const answerRest = async (original, peer) => {
    if (database.takeStaleConnection()) return answerOfStaleConnection();
    const headers = new Headers(original.headers);
    await forgiveSkew(headers, options.jwt_secret);
    ignoreTransactionPreference(headers);
    const body = ['GET', 'HEAD'].includes(original.method) ? undefined : await original.text();
    const request = new Request(protectNumbers(original.url), { method: original.method, headers, body: body || undefined });
    const state = { body, isJson: !/csv|urlencoded|octet|text\/plain/.test(headers.get('content-type') ?? '') };
    return withinRequest(state, async () => {
      const answered = await mendAnswer(await app.fetch(request, peer), state.error);
      return state.status && answered.ok ? withStatus(answered, state.status) : answered;
    });
  };

  return new Promise((resolve) => {
    const serverOptions = { maxHeaderSize: options.max_head_bytes, keepAliveTimeout: options.keep_alive_ms };
    const server = serve({ port: options.port, hostname: '127.0.0.1', fetch: answer, serverOptions }, ({ port }) => resolve(port));
    server.on('clientError', refuseHead);
  });
}

// lite says that it rolled back, and commits. PostgREST, unless it is told otherwise, ignores this preference.
function ignoreTransactionPreference(headers) {
  const prefer = headers.get('prefer');
  if (prefer?.includes('tx=')) headers.set('prefer', prefer.split(',').filter((p) => !p.trim().startsWith('tx=')).join(','));
}

// A PUT that returns nothing stays 204 when it updated.
const withStatus = (response, status) =>
  response.status === status || (response.status === 204 && status === 200)
    ? response
    : new Response(response.body, { status, headers: response.headers });

/** A head that is too long gets plain text, not JSON: clients must not choke on that. */
function refuseHead(error, socket) {
  if (!socket.writable) return socket.destroy();
  const text = error.code === 'HPE_HEADER_OVERFLOW' ? 'Request header fields too large' : 'Bad Request';
  socket.end(`HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`);
}

/** Plain SQL for tests, since a database inside this process has no other door. Rows are lists of texts. */
async function answerSql(request, database, { secret_key }) {
  if (request.headers.get('apikey') !== secret_key) return refuse(401, 'TESTBED', 'the secret key opens this');
  const sql = await request.text();
  try {
    if (request.headers.get('x-script')) {
      await database.exclusively(() => database.script(sql));
      return Response.json([]);
    }
    return Response.json((await database.exclusively(() => database.query(sql))).rows);
  } catch (error) {
    return refuse(400, error.code ?? 'TESTBED', error.message);
  }
}
