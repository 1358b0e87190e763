// The database behind the server: a real PostgreSQL through `pg`, or pglite inside this process. Both are given to
// lite as a Kysely dialect (dialect.mjs), so that one set of mendings covers both.
//
// lite's own PostgreSQL driver is not used: when the database dies it leaves requests hanging and can end the process.

import pg from 'pg';
import { createPostgresConnection } from '@supabase/lite/postgres';
import { createPgliteConnection } from '@supabase/lite/pglite';
import { installDialect } from './dialect.mjs';
import { findSnapshot, holdsDatabase } from './snapshot.mjs';

const reloadChannel = 'pgrst';
const retryMs = 100;

export const openDatabase = (options) => (options.driver === 'pglite' ? openPglite(options) : openPostgres(options));

// Answers to lite's own queries (users, sessions) come as lite expects them: text for times, numbers where safe.
const asText = (text) => text;
const asTime = (text) => text.replace(' ', 'T').replace(/\+00$/, 'Z'); // what Auth answers
const asNumber = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text));
const nameArray = 1003;
const parsers = new Map([
  [20, asNumber],
  [1184, asTime],
  [nameArray, pg.types.getTypeParser(1009)],
  ...[1082, 1083, 1114, 1266, 1700].map((oid) => [oid, asText]),
]);
const types = { getTypeParser: (oid, format) => parsers.get(oid) ?? pg.types.getTypeParser(oid, format) };

async function openPostgres({ url, pool_size, pool_wait_ms }) {
  const settings = { connectionString: url, options: '-c TimeZone=UTC', types };
  const pool = new pg.Pool({ ...settings, max: pool_size, connectionTimeoutMillis: pool_wait_ms, idleTimeoutMillis: 0 });
  // After a crash PostgREST finds out about each of its idle connections only by using it (see front.mjs).
  let staleConnections = 0;
  // One that dies while it is lent out tells whoever has it; unheard, its event would end the process.
  pool.on('connect', (client) => client.on('error', () => {}));
  pool.on('error', () => (staleConnections = Math.min(staleConnections + 1, pool_size)));

  const connection = createPostgresConnection({ url });
  const inTurn = oneAtATime(); // or a slow reload would bring back a list that a later one has replaced
  installDialect(connection, {
    open: async () => postgresSession(await pool.connect()),
    close: (session) => session.release(),
  });

  return {
    connection,
    takeStaleConnection: () => staleConnections > 0 && staleConnections-- > 0,
    query: (sql) => pool.query({ text: sql, rowMode: 'array', types: { getTypeParser: () => asText } }),
    script: (sql) => pool.query(sql),
    watchSchema: () => watch(settings, () => inTurn(() => reloadSchema(connection))),
    close: () => pool.end(),
    isMigrated: false,
    afterMigration: async () => {},
    exclusively: (work) => work(),
  };
}

function oneAtATime() {
  let last = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
  };
}

function postgresSession(client) {
  return {
    async query(sql, parameters) {
      const { rows, command, rowCount } = await client.query(sql, parameters);
      return { rows, affected: command === 'SELECT' ? undefined : BigInt(rowCount ?? 0) };
    },
    script: (sql) => client.query(sql),
    release: () => client.release(),
  };
}

async function openPglite({ url, migrate }) {
  const snapshot = migrate.length > 0 && !holdsDatabase(url) ? await findSnapshot(migrate) : undefined;
  const pgliteOptions = snapshot?.bytes ? { loadDataDir: new Blob([snapshot.bytes]) } : {};
  const connection = await createPgliteConnection({ ...(url ? { url } : {}), pgliteOptions });
  const pglite = connection.driver;
  await pglite.waitReady;
  installDialect(connection, { open: async () => pgliteSession(pglite), close() {} });
  // One session serves everybody, so one request at a time has it: transactions must not run into each other.
  const exclusively = oneAtATime();
  const raw = { rowMode: 'array', parsers: new Proxy({}, { get: () => asText }) };
  return {
    connection,
    takeStaleConnection: () => false,
    query: (sql) => pglite.query(sql, [], raw),
    script: (sql) => pglite.exec(sql),
    watchSchema: async () => {
      const read = () => exclusively(() => reloadSchema(connection));
      await pglite.listen(reloadChannel, read);
      await read();
    },
    close: () => pglite.close(),
    isMigrated: snapshot?.bytes !== undefined,
    afterMigration: async () => snapshot?.save(Buffer.from(await (await pglite.dumpDataDir('none')).arrayBuffer())),
    exclusively,
  };
}

const pgliteSession = (pglite) => ({
  async query(sql, parameters) {
    const { rows, affectedRows } = await pglite.query(sql, parameters);
    return { rows, affected: /^\s*(with testbed|insert|update|delete)/i.test(sql) ? BigInt(affectedRows ?? 0) : undefined };
  },
  script: (sql) => pglite.exec(sql),
});

/** Reads the tables anew. Until that is done the old list serves, and a failure (the database is down) leaves it as it is. */
async function reloadSchema(connection) {
  const { tables } = await connection.introspect();
  // lite answers a failure with an empty list; the auth schema is always there.
  if (tables.length === 0) throw new Error('the tables could not be read');
}

/** Reads the tables, and again on `NOTIFY pgrst` and whenever the database has come back, as PostgREST does. */
async function watch(settings, reload) {
  const client = new pg.Client(settings);
  let lost = false;
  const onLoss = () => {
    if (lost) return;
    lost = true;
    client.end().catch(() => {});
    setTimeout(() => watch(settings, reload), retryMs);
  };
  const read = () => reload().catch(onLoss);
  client.on('error', onLoss).on('end', onLoss).on('notification', read);
  try {
    await client.connect();
    await client.query(`listen ${reloadChannel}`);
  } catch {
    return onLoss();
  }
  await read();
}
