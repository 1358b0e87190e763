// Where the bytes of stored objects lie: one file each in a flat folder, under the hash of its name, since an object
// may be called `a` beside another one called `a/b`. lite's own adapter for files is not used: it takes every body
// into memory, forgets content types, and answers no ranges.
//
// lite hands an adapter neither the request's headers nor a way to refuse it; both go through
// `currentRequest().storage` (storage.mjs).

import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, mkdirSync } from 'node:fs';
import { link, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { currentRequest } from './context.mjs';
import * as errors from './storage_errors.mjs';

const md5 = () => createHash('md5');

export class Files {
  constructor(folder) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  pathOf(bucket, name) {
    return join(this.folder, createHash('sha256').update(`${bucket}/${name}`).digest('hex'));
  }

  /** Takes a body, or the file of a resumable upload that is whole; nobody sees it before it is. */
  async uploadObject(bucket, name, _version, body, contentType, cacheControl) {
    const { finishedFile, mostBytes } = currentRequest().storage;
    const path = this.pathOf(bucket, name);
    const unfinished = `${path}.${randomUUID()}`;
    try {
      const eTag = finishedFile ? await take(finishedFile, unfinished) : await receive(body, unfinished, mostBytes);
      await writeFile(`${unfinished}.json`, JSON.stringify({ mimetype: contentType, cacheControl, eTag }));
      await rename(`${unfinished}.json`, `${path}.json`);
      await rename(unfinished, path);
    } finally {
      await remove(unfinished);
    }
    return this.headObject(bucket, name);
  }

  async headObject(bucket, name) {
    const path = this.pathOf(bucket, name);
    return describe(await stat(path), path);
  }

  /** The whole object, or the part of it that the request's `Range` asks for. */
  async getObject(bucket, name) {
    const { storage } = currentRequest();
    const path = this.pathOf(bucket, name);
    const file = await open(path); // so that what is measured is what is read, also while it is being replaced
    const metadata = await describe(await file.stat(), path);
    const part = partOf(storage.range, metadata.size);
    if (part?.isNowhere) {
      await file.close();
      throw storage.refuse(errors.unsatisfiableRange());
    }
    const body = Readable.toWeb(file.createReadStream(part));
    storage.length = part ? part.end - part.start + 1 : metadata.size;
    if (!part) return { httpStatusCode: 200, metadata, body };
    const contentRange = `bytes ${part.start}-${part.end}/${metadata.size}`;
    storage.status = 206;
    return { httpStatusCode: 206, metadata: { ...metadata, contentLength: storage.length, contentRange }, body };
  }

  async deleteObject(bucket, name) {
    await remove(this.pathOf(bucket, name));
  }

  async deleteObjects(bucket, names) {
    for (const name of names) await this.deleteObject(bucket, name);
  }

  /** A file is never written again once it has its name, so a copy may share it. */
  async copyObject(fromBucket, fromName, _version, toBucket, toName) {
    const [from, to] = [this.pathOf(fromBucket, fromName), this.pathOf(toBucket, toName)];
    await remove(to);
    await link(`${from}.json`, `${to}.json`);
    await link(from, to);
    return this.headObject(toBucket, toName);
  }

  async privateAssetUrl(bucket, name) {
    return `file://${this.pathOf(bucket, name)}`;
  }
}

async function describe({ size, mtime }, path) {
  const kept = JSON.parse(await readFile(`${path}.json`, 'utf8'));
  return { ...kept, size, contentLength: size, lastModified: mtime, httpStatusCode: 200 };
}

const remove = (path) => Promise.all([rm(path, { force: true }), rm(`${path}.json`, { force: true })]);

/** The upload keeps its file, so that a client that missed the last answer still finds all of it there. */
async function take(file, path) {
  await link(file, path);
  return `"${md5().update(randomUUID()).digest('hex')}-1"`; // as S3 tags what came in parts: no digest of the bytes
}

async function receive(body, path, mostBytes) {
  const { storage } = currentRequest();
  const digest = md5();
  let size = 0;
  const measure = new Transform({
    transform(chunk, _encoding, done) {
      size += chunk.length;
      if (size > mostBytes) return done(storage.refuse(errors.tooLarge()));
      digest.update(chunk);
      done(null, chunk);
    },
  });
  const source = body instanceof Uint8Array ? Readable.from([body]) : Readable.fromWeb(body);
  await pipeline(source, measure, createWriteStream(path));
  return `"${digest.digest('hex')}"`;
}

/** `bytes=2-5`, `bytes=2-` and `bytes=-5`; anything else, also several ranges at once, asks for the whole. */
function partOf(range, size) {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/i.exec(range ?? '') ?? [];
  if (!first && !last) return undefined;
  const start = first ? Number(first) : Math.max(0, size - Number(last));
  const end = first && last ? Math.min(Number(last), size - 1) : size - 1;
  return start > end ? { isNowhere: true } : { start, end };
}
