// A Supabase-compatible server for tests: the official @supabase/lite, embedded, with everything mended that a
// client of the real PostgREST would notice. It prints one line of JSON when it is ready, and ends when its standard
// input closes, so that it never outlives the process that started it.

import { readFile } from 'node:fs/promises';
import { App } from '@supabase/lite';
import { openDatabase } from './database.mjs';
import { listen } from './front.mjs';
import { readOptions } from './options.mjs';
import { mendConnection } from './statements.mjs';

const options = readOptions(process.argv[2]);
// Its packages take time to read, so only who asks for Storage waits for them.
const storage = options.storage ? await import('./storage.mjs') : undefined;

// lite reports every refused row on the console; to a test those are ordinary answers.
if (!options.verbose) console.error = console.warn = console.log = () => {};

// Whoever closed our input is gone or no longer interested. pglite writes its files when it is closed.
let database;
const end = () => {
  setTimeout(() => process.exit(0), 2_000);
  Promise.resolve(options.driver === 'pglite' && database?.close()).finally(() => process.exit(0));
};
process.stdin.on('end', end).on('error', end).resume();

try {
  database = await openDatabase(options);
  mendConnection(database.connection);
  const app = new App({
    connection: database.connection,
    api: { schemas: options.schemas, max_rows: options.max_rows },
    auth: {
      enabled: true,
      enable_signup: true,
      jwt_secret: options.jwt_secret,
      jwt_expiry: options.jwt_expiry,
      publishable_key: options.publishable_key,
      secret_key: options.secret_key,
      email: { enable_confirmations: false },
    },
    ...(storage ? { storage: storage.storageConfig } : {}),
    // Admin mode would let a request without any key run as service_role.
    options: { server: { admin: false } },
  });
  const answerStorage = storage?.openStorage(app, database, options);
  await app.init();
  if (options.migrate.length > 0 && !database.isMigrated) {
    // The auth schema goes first: the schemas of a project call auth.uid().
    await app.ensureSystemSchema();
    for (const file of options.migrate) await database.script(await readFile(file, 'utf8'));
    await database.afterMigration();
  }
  if (options.only_migrate) {
    await database.close();
    process.exit(0);
  }
  // Read the tables before the first request does: the first requests would all do it at once.
  await database.watchSchema();
  const port = await listen(app, database, options, answerStorage);
  process.stdout.write(JSON.stringify({ port, pid: process.pid }) + '\n');
} catch (error) {
  process.stderr.write(`the test server could not start: ${error?.stack ?? error}\n`);
  process.exit(1);
}

// A library's stray rejection must not end the server in the middle of a test; it is reported instead.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error) => process.stderr.write(`test server, ${event}: ${error?.stack ?? error}\n`));
