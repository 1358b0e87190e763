// What the server can be told, as one JSON argument. Every key has a default; an unknown key is refused.

const defaults = {
  driver: 'postgres', // or 'pglite': PostgreSQL compiled to WebAssembly, inside this process
  url: '', // postgres:// address; for pglite a folder, or empty for a database in memory
  port: 0, // 0 takes a free one
  schemas: ['public'], // reachable by Accept-Profile and Content-Profile
  max_rows: 1000, // the most rows a select returns, as on hosted Supabase
  pool_size: 10, // PostgREST's own default
  pool_wait_ms: 10_000, // then 504 PGRST003
  keep_alive_ms: 75_000, // an idle connection is kept at least as long as the hosted gateway keeps it
  max_head_bytes: 50_000, // a longer request line and headers are refused before they are parsed
  jwt_secret: 'tidelock-testbed-secret-of-at-least-32-characters',
  jwt_expiry: 3600, // seconds
  publishable_key: 'sb_publishable_tidelock_testbed_00000000',
  secret_key: 'sb_secret_tidelock_testbed_000000000000',
  storage: '', // the folder where Storage keeps its files; empty: no Storage, 404
  resumable: true, // whether that Storage takes resumable uploads
  migrate: [], // SQL files to apply first, in this order; empty means that the database is prepared already
  only_migrate: false, // end after that
  verbose: false, // let lite write to the console
};

export function readOptions(argument) {
  const given = argument ? JSON.parse(argument) : {};
  for (const key of Object.keys(given)) if (!(key in defaults)) throw new Error(`unknown option: ${key}`);
  return { ...defaults, ...given };
}
