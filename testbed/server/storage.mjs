// Supabase Storage: lite answers for buckets, the rows of objects and row-level security; files.mjs keeps the bytes and
// resumable.mjs takes uploads in parts. What stands here is what a client of the real Storage would miss in lite.
//
// Bodies are bytes and pass through as they come, both ways.

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setExperimental } from '@supabase/lite';
import { withinRequest } from './context.mjs';
import { Files } from './files.mjs';
import { openResumable, resumablePath } from './resumable.mjs';
import { accessDenied, invalidKey, mendStorageAnswer, noSuchKey } from './storage_errors.mjs';
import { whyRefused } from './tokens.mjs';

const storagePath = '/storage/v1/';
const objectPath = `${storagePath}object/`;
const authenticatedPath = `${objectPath}authenticated/`;
/** What hosted Supabase takes in one piece unless a project is set otherwise. */
const mostBytes = 50 * 1024 * 1024;

/** What lite is told at its start. */
export const storageConfig = { enabled: true, file_size_limit: '50MiB' };

/** Gives lite its files, and gives back what answers the requests to Storage. */
export function openStorage(app, database, options) {
  setExperimental('storage', true);
  app._storageAdapter = new Files(`${options.storage}/objects`);

  /** Asks lite; `storage` is what its adapter is to know and can say (files.mjs). */
  const lite = async (path, { method, headers, body }, storage = {}) => {
    const state = { storage: { mostBytes, refuse: (refusal) => refuseWith(state.storage, refusal), ...storage } };
    const request = new Request(`http://localhost${path}`, { method, headers, body, duplex: 'half' });
    const peer = { peerAddress: null };
    const response = await database.exclusively(() => withinRequest(state, () => app.fetch(request, peer)));
    const { refusal, status, length } = state.storage;
    return { response: refusal ?? (await mendStorageAnswer(response)), status, length };
  };

  const resumable = options.resumable ? openResumable(lite, options) : undefined;

  return async (incoming, outgoing) => {
    const { pathname, search } = new URL(incoming.url, 'http://localhost');
    const headers = headersOf(incoming);
    const refused = await refuseToken(incoming.method, pathname, headers, options);
    if (refused) return send(outgoing, { response: refused });
    if (resumable && `${pathname}/`.startsWith(`${resumablePath}/`)) return resumable.handle(incoming, outgoing);
    let path;
    try {
      // lite leaves some escapes as they are, and would take them for a part of the name.
      path = encodeURI(decodeURIComponent(pathname));
    } catch {
      return send(outgoing, { response: invalidKey(pathname) });
    }
    const answered = await answer(lite, incoming, path, search, headers);
    incoming.resume(); // what was not read of a refused body, for the next request on this connection
    return send(outgoing, answered);
  };
}

function answer(lite, incoming, path, search, headers) {
  const { method } = incoming;
  const isObject = path.startsWith(objectPath);
  if (isObject && ['GET', 'HEAD'].includes(method)) {
    // lite knows only one of the two addresses, and answers a HEAD with nothing.
    const known = path.startsWith(authenticatedPath) ? objectPath + path.slice(authenticatedPath.length) : path;
    return lite(known + search, { method: 'GET', headers }, { range: incoming.headers.range });
  }
  const named = isObject && method === 'DELETE' ? /^([^/]+)\/(.+)$/.exec(path.slice(objectPath.length)) : null;
  if (named) return deleteOne(lite, headers, named[1], decodeURI(named[2]));
  // A body that nobody wants any more must not take the connection with it: the answer still goes through that.
  const chunks = incoming.iterator({ destroyOnReturn: false });
  const body = ['GET', 'HEAD'].includes(method) ? undefined : ReadableStream.from(chunks);
  return lite(path + search, { method, headers, body });
}

/** lite deletes only by lists. */
async function deleteOne(lite, headers, bucket, name) {
  headers.set('content-type', 'application/json');
  headers.delete('content-length');
  const request = { method: 'DELETE', headers, body: JSON.stringify({ prefixes: [name] }) };
  const { response } = await lite(`${objectPath}${bucket}`, request);
  if (!response.ok) return { response };
  const deleted = await response.json();
  return { response: deleted.length > 0 ? Response.json({ message: 'Successfully deleted' }) : noSuchKey() };
}

function refuseWith(storage, refusal) {
  storage.refusal = refusal;
  return new Error('Storage refuses this request');
}

function headersOf(incoming) {
  const headers = new Headers();
  for (let i = 0; i < incoming.rawHeaders.length; i += 2)
    if (!/^(connection|keep-alive|transfer-encoding|expect)$/i.test(incoming.rawHeaders[i]))
      headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1]);
  return headers;
}

/** Storage reads tokens itself, without PostgREST's grace. Where public objects may lie a bad one is overlooked. */
async function refuseToken(method, pathname, headers, { jwt_secret }) {
  const mayBePublic = pathname.startsWith(objectPath) && !pathname.startsWith(authenticatedPath);
  if (method === 'OPTIONS' || (mayBePublic && ['GET', 'HEAD'].includes(method))) return undefined;
  const reason = await whyRefused(headers, jwt_secret);
  return reason && accessDenied(reason);
}

async function send(outgoing, { response, status, length }) {
  outgoing.statusCode = response.ok ? (status ?? response.status) : response.status;
  for (const [name, value] of response.headers) if (name !== 'content-length') outgoing.appendHeader(name, value);
  const isStream = response.ok && length !== undefined;
  const body = isStream ? response.body : Buffer.from(await response.arrayBuffer());
  outgoing.setHeader('content-length', isStream ? length : body.length);
  if (outgoing.req.method === 'HEAD') {
    if (isStream) await body.cancel();
    return outgoing.end();
  }
  if (!isStream) return outgoing.end(body);
  // A client that leaves in the middle is no fault of the server's.
  await pipeline(Readable.fromWeb(body), outgoing).catch(() => {});
}
