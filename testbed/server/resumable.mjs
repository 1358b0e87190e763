// Resumable uploads (TUS 1.0.0) by the package that Supabase Storage itself takes, wired as Storage wires it: an
// upload is named by its bucket, its object and a version; the user's rights are tried whenever something is sent, and
// once more when all of it is there and becomes the object.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { FileStore } from '@tus/file-store';
import { Server } from '@tus/server';

export const resumablePath = '/storage/v1/upload/resumable';
const chunkBytes = 6 * 1024 * 1024;
const expiresMs = 24 * 60 * 60 * 1000;

/** `lite(path, request, storage)` asks lite, see storage.mjs. */
export function openResumable(lite, { storage, secret_key }) {
  const folder = join(storage, 'uploads');
  const datastore = new FileStore({ directory: folder, expirationPeriodInMilliseconds: expiresMs });

  const ask = async (path, request, context) => {
    const { response } = await lite(path, request, context);
    const body = await response.json();
    if (response.ok) return body;
    throw refusal(Number(body.statusCode), body.message);
  };

  /** lite tries exactly this, and leaves nothing behind, before it signs an address to upload to. */
  const tryRights = (request, { bucket, name }) =>
    ask(`/storage/v1/object/upload/sign/${addressOf(bucket, name)}`, { method: 'POST', headers: rights(request) });

  return new Server({
    path: resumablePath,
    datastore,
    disableTerminationForFinishedUploads: true,
    respectForwardedHeaders: true,
    namingFunction: (_request, metadata) => {
      if (!metadata) throw refusal(400, 'Metadata header is required');
      return `${metadata.bucketName ?? ''}/${metadata.objectName ?? ''}/${randomUUID()}`;
    },
    generateUrl: (_request, { proto, host, path, id }) => `${proto}://${host}${path}/${encode(id)}`,
    getFileIdFromRequest: (request) => {
      const encoded = new URL(request.url).pathname.slice(resumablePath.length + 1);
      return encoded ? Buffer.from(encoded, 'base64url').toString() : undefined;
    },
    maxSize: async (_request, id) => {
      if (!id) return 0; // somebody asks what this server can do
      const { bucket } = parse(id);
      const request = { method: 'GET', headers: { apikey: secret_key } };
      const { file_size_limit } = await ask(`/storage/v1/bucket/${encodeURIComponent(bucket)}`, request);
      return file_size_limit ?? 0; // no limit
    },
    onIncomingRequest: async (request, id) => {
      const upload = parse(id);
      // Whoever is signed in and knows the address may ask how far an upload is.
      if (['HEAD', 'OPTIONS'].includes(request.method)) return;
      await tryRights(request, upload);
      if (request.method !== 'DELETE') await checkChunk(datastore, request, id);
    },
    onUploadFinish: async (request, { id, metadata }) => {
      const { bucket, name } = parse(id);
      const headers = rights(request);
      headers.set('content-type', metadata.contentType || 'application/octet-stream');
      const { cacheControl = '' } = metadata;
      headers.set('cache-control', /^-?\d+$/.test(cacheControl) ? `max-age=${cacheControl}` : 'no-cache');
      const finishedFile = join(folder, id);
      await ask(`/storage/v1/object/${addressOf(bucket, name)}`, { method: 'POST', headers }, { finishedFile });
      return { headers: { 'Tus-Complete': '1' } };
    },
    onResponseError: (request) => readToEnd(request.runtime.node.req),
  });
}

/** As a gateway in front does: a refusal closes the connection, and a client that still sends would not see why. */
async function readToEnd(incoming) {
  if (incoming.readableEnded || incoming.destroyed) return;
  incoming.resume();
  await finished(incoming).catch(() => {}); // it left
}

/** How the TUS server is told an error: its status is the answer's, its text the whole body. */
const refusal = (status, message) => ({ status_code: status, body: message });

const encode = (id) => Buffer.from(id).toString('base64url');

function parse(id) {
  const parts = id.split('/');
  if (parts.length < 3 || parts.some((part) => ['', '.', '..'].includes(part))) throw refusal(400, 'Invalid upload id');
  return { bucket: parts[0], name: parts.slice(1, -1).join('/') };
}

const addressOf = (bucket, name) => encodeURI(`${bucket}/${name}`);

/** What says whose request it is, and whether it may replace an object. */
function rights(request) {
  const headers = new Headers();
  for (const name of ['authorization', 'apikey', 'x-upsert'])
    if (request.headers.has(name)) headers.set(name, request.headers.get(name));
  return headers;
}

/** Hosted Supabase asks for chunks of this size, all but the last; what it does with others is not documented. */
async function checkChunk(datastore, request, id) {
  const sent = request.headers.get('content-length');
  if (sent === null) return;
  const isCreation = request.method === 'POST';
  // A creation may come without bytes.
  if (isCreation && sent === '0') return;
  const length = request.headers.get('upload-length');
  const made = { size: length === null ? undefined : Number(length), offset: 0 };
  const { size, offset } = isCreation ? made : await datastore.getUpload(id);
  // Which chunk is the last cannot be told; and another offset than ours is for the TUS server to refuse.
  if (size === undefined) return;
  if (!isCreation && request.headers.get('upload-offset') !== String(offset)) return;
  const wanted = Math.min(chunkBytes, size - offset);
  if (Number(sent) !== wanted) throw refusal(400, `all chunks but the last have ${chunkBytes} bytes: here ${wanted}`);
}
