// The Kysely dialect that lite runs its statements through. It does three things lite's own does not: it opens the
// transaction and sets its role in one round trip, it tells the request which database error it met, and it gives
// each statement to the connection's `rewrite` (statements.mjs) first.

import { Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from 'kysely';
import pg from 'pg';
import { recordError } from './context.mjs';

/** `sessions.open()` gives `{ query(sql, parameters), script(sql) }`; `sessions.close(session)` takes it back. */
export function installDialect(connection, sessions) {
  const run = async (session, statement) => {
    const rewrite = connection.rewrite ?? ((given, execute) => execute(given));
    try {
      return await rewrite(statement, (given) => session.query(given.sql, given.parameters));
    } catch (error) {
      throw recordError(error);
    }
  };
  connection.kysely = new Kysely({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createIntrospector: (kysely) => new PostgresIntrospector(kysely),
      createQueryCompiler: () => new PostgresQueryCompiler(),
      createDriver: () => new Driver(sessions, run),
    },
  });
}

class Driver {
  constructor(sessions, run) {
    this.sessions = sessions;
    this.run = run;
  }

  async init() {}
  async destroy() {}

  async acquireConnection() {
    try {
      return new SessionConnection(await this.sessions.open(), this.run);
    } catch (error) {
      throw recordError(error);
    }
  }

  async releaseConnection(connection) {
    this.sessions.close(connection.session);
  }

  async beginTransaction(connection) {
    connection.preamble = [];
  }

  async commitTransaction(connection) {
    await connection.end('commit');
  }

  async rollbackTransaction(connection) {
    await connection.end('rollback');
  }
}

const setting = /^\s*select set_config\('[a-z_.]+', (?:\$1|''), true\)\s*$/i;
const role = /^\s*set local role "[^"]+"\s*$/i;

class SessionConnection {
  // Settings that wait for the first real statement of a transaction; undefined outside of one or once it has begun.
  preamble;
  begun = false;

  constructor(session, run) {
    this.session = session;
    this.run = run;
  }

  async executeQuery({ sql, parameters }) {
    if (this.preamble) {
      if (setting.test(sql) || role.test(sql)) {
        this.preamble.push(parameters.length > 0 ? sql.replace('$1', () => pg.escapeLiteral(String(parameters[0]))) : sql);
        return { rows: [] };
      }
      await this.begin();
    }
    const { rows, affected } = await this.run(this.session, { sql, parameters: [...parameters] });
    return { rows, numAffectedRows: affected };
  }

  async begin() {
    const script = ['begin', ...this.preamble].join('; ');
    this.preamble = undefined;
    this.begun = true;
    try {
      await this.session.script(script);
    } catch (error) {
      throw recordError(error);
    }
  }

  async end(how) {
    this.preamble = undefined;
    if (!this.begun) return;
    this.begun = false;
    try {
      await this.session.script(how);
    } catch (error) {
      throw recordError(error);
    }
  }

  async *streamQuery() {
    throw new Error('the testbed does not stream results');
  }
}
