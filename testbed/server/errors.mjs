// Errors as PostgREST answers them: lite knows the status of some, and calls the rest `SUP`.

const statusByCode = {
  23503: 409,
  23505: 409,
  25006: 405,
  '42P01': 404,
  '42P17': 500,
  42883: 404,
  42501: 403,
  53400: 500,
  '57P01': 503,
  P0001: 400,
};

const statusByClass = {
  '08': 503, '09': 500, '0L': 403, '0P': 403, 21: 500, 25: 500, 28: 403, '2D': 500, 38: 500, 39: 500, '3B': 500,
  40: 500, 53: 503, 54: 500, 55: 500, 57: 500, 58: 500, F0: 500, HV: 500, P0: 500, XX: 500,
};

function statusOf(code) {
  if (/^PT[2-5]\d\d$/.test(code)) return Number(code.slice(2));
  return statusByCode[code] ?? statusByClass[code.slice(0, 2)] ?? 400;
}

const json = (status, body, headers = {}) =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json; charset=utf-8', ...headers } });

export const refuse = (status, code, message) => json(status, { code, details: null, hint: null, message });

/** What a request gets on a pooled connection that died while it was idle. */
export const answerOfStaleConnection = () => refuse(400, '', '');

const isSqlState = (code) => typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code);

/** The answer that PostgREST gives for this database error, or lite's own where that is right already. */
export async function mendAnswer(response, error) {
  if (!error || response.status < 400) return response;
  if (/timeout exceeded when trying to connect/.test(error.message))
    return refuse(504, 'PGRST003', 'Timed out acquiring connection from connection pool.');
  // FATAL ends the connection; an error without SQLSTATE is the connection itself (refused, reset, ended).
  if (error.severity === 'FATAL' || !isSqlState(error.code)) {
    if (!isConnectionError(error)) return response;
    const [code, message] = isRefusal(error)
      ? ['PGRST000', 'Database connection error. Retrying the connection.']
      : ['PGRST001', 'Database client error. Retrying the connection.'];
    return json(503, { code, details: error.message, hint: null, message }, { 'retry-after': '0' });
  }
  const body = await response.clone().json().catch(() => ({}));
  // Which of 401 and 403 it is depends on the role, which lite knows. What it translated stays as it is.
  const translated = body.code !== error.code && body.code !== 'SUP';
  if (translated) return response;
  const known = body.code === error.code;
  const status = error.code === '42501' && known ? response.status : statusOf(error.code);
  const message = known ? body.message : error.message;
  return json(status, { code: error.code, details: error.detail ?? null, hint: error.hint ?? null, message });
}

const isRefusal = (error) =>
  ['ECONNREFUSED', 'ENOENT', 'ETIMEDOUT'].includes(error.code) || ['57P03', '53300'].includes(error.code);

const isConnectionError = (error) =>
  error.severity === 'FATAL' ||
  isRefusal(error) ||
  ['ECONNRESET', 'EPIPE'].includes(error.code) ||
  /connection (terminated|ended|error)|not queryable/i.test(error.message);
