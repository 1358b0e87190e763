// Rows go in and out of PostgreSQL as JSON text, as PostgREST does it, so that PostgreSQL alone converts every value:
//
//   in    insert into t (a, b) select a, b from json_populate_recordset(null::t, $1)
//   out   select row_to_json(rows)::text from (...) rows
//
// lite still reads the request, checks it, sets the role and writes the statement; what it writes is changed here
// before it runs. A statement that does not look as expected is an error: then lite has changed.

import { currentRequest } from './context.mjs';
import { parseExactly } from './numbers.mjs';

export function mendConnection(connection) {
  const check = connection.onPostgrestAST.bind(connection);
  connection.onPostgrestAST = async (ast, variables) => planRequest(connection, await check(ast, variables));
  connection.rewrite = rewrite;
  // Every request runs as its role, and tables are granted by the schema (platform.sql). lite would do neither
  // until it has seen a policy, and then grant everything in the middle of the first requests.
  connection.ensureRlsContext = async () => true;
}

const quote = (name) => `"${name.replaceAll('"', '""')}"`;

/** Looks at the request as lite understood it, and notes what the statement has to become. */
async function planRequest(connection, ast) {
  const request = currentRequest();
  if (!request || request.storage) return ast;
  const change = { type: ast.type, table: `${quote(ast.schema ?? 'public')}.${quote(ast.from ?? '')}` };
  if (['insert', 'upsert', 'put', 'update'].includes(ast.type) && request.isJson) planRows(request, ast, change);
  if (ast.type === 'rpc' && ast.httpMethod === 'POST' && request.isJson) await planArguments(connection, request, ast);
  if (change.columns && ast.$meta?.missing === 'default') change.defaults = await columnDefaults(connection, ast, change.columns);
  request.change = change;
  return ast;
}

/** Takes the rows out of lite's hands: one empty row stands for them, and their JSON text goes to PostgreSQL. */
function planRows(request, ast, change) {
  const rows = Array.isArray(ast.values) ? ast.values : [ast.values];
  // What is no object, or empty, or too many for one object, lite refuses or answers by itself. Where columns are named,
  // PostgREST performs even an insert of no rows, and PostgreSQL then looks whether it is granted.
  if ((rows.length === 0 && !ast.$meta?.columns) || rows.some((row) => row === null || typeof row !== 'object' || Array.isArray(row))) return;
  if (ast.$meta?.cardinality === 'one' && rows.length > 1) return;
  const keys = Object.keys(rows[0] ?? {});
  const columns = ast.$meta?.columns ?? keys;
  // A row that names no column takes all its defaults, see `insertDefaults`.
  if (columns.length === 0) return;
  if (!ast.$meta?.columns && rows.some((row) => !sameKeys(row, keys))) return;
  change.columns = columns;
  change.body = Array.isArray(ast.values) ? request.body : `[${request.body}]`;
  // PUT compares the row with the address, so it keeps its one row.
  const standIn = ast.type === 'put' ? rows[0] : Object.fromEntries(columns.map((column) => [column, null]));
  ast.values = Array.isArray(ast.values) ? [standIn] : standIn;
  // lite would blank the columns that a row did not name; the database knows better what it stored.
  if (ast.$meta) ast.$meta.columns = undefined;
}

const sameKeys = (row, keys) => Object.keys(row).length === keys.length && keys.every((key) => key in row);

/** Gives json arguments as their JSON text (lite passes strings unquoted), and other numbers exactly. */
async function planArguments(connection, request, ast) {
  if (!ast.args || Array.isArray(ast.args) || '_raw' in ast.args) return;
  const exact = parseExactly(request.body);
  const { functions } = await connection.introspect({ useCache: true });
  const names = Object.keys(exact);
  const called = functions.find((known) => known.name === ast.function && names.every((name) => known.arg_names.includes(name)));
  for (const name of names) {
    const type = called?.arg_types[called.arg_names.indexOf(name)];
    const value = exact[name];
    if (value !== null && /^jsonb?$/.test(type ?? '')) ast.args[name] = JSON.stringify(value);
    else if (JSON.isRawJSON(value)) ast.args[name] = value.rawJSON;
  }
}

/** `Prefer: missing=default`: the SQL that stands for each column a row does not name. */
async function columnDefaults(connection, ast, columns) {
  const { columns: known } = await connection.introspect({ useCache: true });
  return columns.flatMap((name) => {
    const column = known.find((k) => k.name === name && k.table === ast.from && k.schema === (ast.schema ?? 'public'));
    return column?.default_value ? [`'${name.replaceAll("'", "''")}', ${column.default_value}`] : [];
  });
}

async function rewrite(statement, execute) {
  const request = currentRequest();
  const change = request?.change;
  if (!change) return execute(statement);
  const { sql } = statement;
  const replacesRows = change.type === 'upsert' || change.type === 'put';
  // lite asks for each row whether it is there already. The statement itself will tell, see `countUpdates`.
  if (replacesRows && /^select count\(\*\) as "__count"/.test(sql)) return { rows: [{ __count: 0 }] };
  if (!/^\s*(select|insert|update|delete)\b/i.test(sql)) return execute(statement);

  const steps = [];
  let main = statement;
  if (/^insert/.test(sql)) main = change.columns ? insertFromJson(main, change) : insertDefaults(main);
  if (change.columns && /^update/.test(sql)) main = updateFromJson(main, change, steps);
  const counts = replacesRows && / do update set /.test(main.sql);
  if (counts) main = countUpdates(main);
  const result = await execute(returnJson(main, steps));
  if (result.rows[0] && 'testbed_row' in result.rows[0])
    result.rows = result.rows.map((row) => parseExactly(row.testbed_row));
  if (counts) request.status = await statusOfUpsert(change, result, execute);
  return result;
}

function insertFromJson({ sql }, { columns, body, table, defaults }) {
  const names = columns.map(quote).join(', ');
  const expected = `(${names}) values (${columns.map((_, index) => `$${index + 1}`).join(', ')})`;
  const source = defaults?.length
    ? `(select jsonb_agg(jsonb_build_object(${defaults.join(', ')}) || given) from jsonb_array_elements($1::jsonb) given)`
    : '$1::json';
  const populate = defaults?.length ? 'jsonb_populate_recordset' : 'json_populate_recordset';
  const wanted = `(${names}) select ${names} from ${populate}(null::${table}, ${source}) as testbed_body`;
  return { sql: swap(sql, expected, wanted), parameters: [body] };
}

const insertDefaults = ({ sql, parameters }) => ({
  sql: sql.replace(/^(insert into "[^"]+"(?:\."[^"]+")?)\s*(?:\(\))?\s*values\s*\(\)/, '$1 default values'),
  parameters,
});

function updateFromJson({ sql, parameters }, { columns, body, table }, steps) {
  const expected = ` set ${columns.map((name, index) => `${quote(name)} = $${index + 1}`).join(', ')}`;
  const wanted = ` set ${columns.map((name) => `${quote(name)} = (select ${quote(name)} from testbed_body)`).join(', ')}`;
  steps.push(`testbed_body as (select * from json_populate_recordset(null::${table}, $1::json))`);
  const [before, after] = cut(sql, expected);
  // The body takes the place of all the values, so what follows them moves up.
  const moved = after.replace(/\$(\d+)/g, (_all, number) => `$${Number(number) - columns.length + 1}`);
  return { sql: before + wanted + moved, parameters: [body, ...parameters.slice(columns.length)] };
}

/** Counts, as PostgREST does, in a setting of the transaction: rows that were not counted were inserted. */
function countUpdates({ sql, parameters }) {
  const count =
    ` where set_config('testbed.updated', (coalesce(nullif(current_setting('testbed.updated', true), ''), '0')::int + 1)::text, true)` +
    ' is not null';
  const at = sql.lastIndexOf(' returning ');
  return { sql: at < 0 ? sql + count : sql.slice(0, at) + count + sql.slice(at), parameters };
}

async function statusOfUpsert(change, result, execute) {
  const { rows } = await execute({ sql: `select current_setting('testbed.updated', true) as updated`, parameters: [] });
  const written = result.rows.length || Number(result.affected ?? 0);
  return written > Number(rows[0].updated || 0) ? 201 : 200;
}

function returnJson({ sql, parameters }, steps) {
  const changes = /^\s*(insert|update|delete)/i.test(sql);
  if (changes && !/ returning /.test(sql)) return { sql: withSteps(steps, sql), parameters };
  const row = 'select row_to_json(testbed_rows)::text as testbed_row from';
  if (!changes) return { sql: `${row} (${sql}) testbed_rows`, parameters };
  return { sql: withSteps([...steps, `testbed_rows as (${sql})`], `${row} testbed_rows`), parameters };
}

const withSteps = (steps, sql) => (steps.length > 0 ? `with ${steps.join(', ')} ${sql}` : sql);

function cut(sql, part) {
  const at = sql.indexOf(part);
  if (at < 0) throw new Error(`lite wrote a statement that the testbed does not know: ${sql.slice(0, 300)}`);
  return [sql.slice(0, at), sql.slice(at + part.length)];
}

const swap = (sql, part, replacement) => cut(sql, part).join(replacement);
