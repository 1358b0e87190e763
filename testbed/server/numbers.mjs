// Numbers that JavaScript cannot hold (2^63-1, numeric(38,10), the 0 in 1.50) pass through as their source text.

/** True when reading this text as a JavaScript number and printing it again gives something else. */
const isInexact = (text) => text !== '' && Number.isFinite(Number(text)) && String(Number(text)) !== text;

// A cheap look before the slow parse: a member or an element that starts with a long or a fractional number.
const afterMemberName = /":\s*-?(?:\d{16}|\d+[.eE])/;
const afterBracketOrComma = /[[,]\s*-?(?:\d{16}|\d+[.eE])/;

/** JSON.parse, except that an inexact number becomes a raw JSON value, which JSON.stringify prints as it was. */
export function parseExactly(text) {
  if (!afterMemberName.test(text) && !afterBracketOrComma.test(text)) {
    // A lone number has no member name before it.
    return isInexact(text) ? JSON.rawJSON(text) : JSON.parse(text);
  }
  return JSON.parse(text, (_key, value, { source } = {}) =>
    typeof value === 'number' && source !== undefined && String(value) !== source ? JSON.rawJSON(source) : value,
  );
}

const comparisons = 'eq|neq|gt|gte|lt|lte|isdistinct';
const isKeyword = (token) =>
  /^(null|not_null|unknown)$/i.test(token) || (/^(true|false)$/i.test(token) && token !== token.toLowerCase());

// lite turns whatever looks like a number or a keyword into one (`1.50` becomes 1.5, `eq.null` becomes NULL);
// in quotes it is left alone, and PostgreSQL reads it by the column's type as PostgREST does.
const protect = (token) => (isInexact(token) || isKeyword(token) ? `"${token}"` : token);

const protectList = (list) => list.replace(/("(?:[^"\\]|\\.)*")|([^,()"]+)/g, (_all, quoted, bare) => quoted ?? protect(bare));

/** Quotes the values in one query parameter that lite would otherwise change. */
export function protectFilter(name, value) {
  if (name === 'and' || name === 'or' || name.endsWith('.and') || name.endsWith('.or')) {
    return value
      .replace(new RegExp(`\\.(${comparisons})\\.([^",()]+)(?=[,)])`, 'g'), (_all, op, token) => `.${op}.${protect(token)}`)
      .replace(/\.in\.\(([^()]*)\)/g, (_all, list) => `.in.(${protectList(list)})`);
  }
  const comparison = new RegExp(`^((?:not\\.)?(?:${comparisons})\\.)(.*)$`, 's').exec(value);
  if (comparison) return comparison[1] + protect(comparison[2]);
  const list = /^((?:not\.)?in\.\()(.*)\)$/s.exec(value);
  return list ? `${list[1]}${protectList(list[2])})` : value;
}

const notFilters = new Set(['select', 'order', 'limit', 'offset', 'columns', 'on_conflict']);

/** The same address with every inexact filter value (or argument of a function called by GET) protected. */
export function protectNumbers(address) {
  const url = new URL(address);
  const isCall = url.pathname.startsWith('/rest/v1/rpc/');
  const changed = [...url.searchParams].map(([name, value]) => {
    if (notFilters.has(name)) return [name, value];
    const filter = protectFilter(name, value);
    return [name, isCall && filter === value ? protect(value) : filter];
  });
  if (changed.every(([, value], index) => value === [...url.searchParams][index][1])) return address;
  url.search = new URLSearchParams(changed).toString();
  return url.toString();
}
