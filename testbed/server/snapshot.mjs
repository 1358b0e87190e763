// pglite takes ten seconds to create a database and a fraction of that to load one. So the first one that was
// prepared with some schema is kept beside the packages, and the next start with the same schema loads it.

import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, 'node_modules', '.cache');

/** The snapshot for these schema files: `{ bytes, save }`, where `bytes` is missing until it was saved once. */
export async function findSnapshot(files) {
  const hash = createHash('sha256');
  for (const file of [join(import.meta.dirname, 'package-lock.json'), ...files]) hash.update(await readFile(file));
  const path = join(folder, `pglite-${hash.digest('hex').slice(0, 16)}.tar`);
  return {
    bytes: await readFile(path).catch(() => undefined),
    async save(bytes) {
      await mkdir(folder, { recursive: true });
      // Under a name of its own first: another process may be loading or saving it at this moment.
      const unfinished = `${path}.${process.pid}`;
      await writeFile(unfinished, bytes);
      await rename(unfinished, path);
    },
  };
}

/** Whether this folder holds a database already. */
export const holdsDatabase = (url) => url !== '' && existsSync(join(url, 'PG_VERSION'));
