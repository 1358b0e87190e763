// A writer that knows nothing of tidelock: supabase-js on the same tables, as an app would use it. For each line that
// it reads it makes one change, in one request and so in one transaction, and reads all there is; then it prints what it
// did as one line of JSON. It ends when its input does.

import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { createClient } from '@supabase/supabase-js';

const { url, key, list_id, first_mark, seed } = JSON.parse(process.argv[2]);
const supabase = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false } });
const mostRows = 8;

// mulberry32
let state = seed >>> 0;
const below = (bound) => {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
};

let steps = 0;
let marks = 0;
const groups = new Map();

/** The rows of a group as they are to be from now on. */
function rewritten(grp, ids) {
  const revision = `supabase-js ${++steps}`;
  const numbers = ids.map(() => first_mark + ++marks * 65536 + below(65536));
  const checksum = numbers.reduce((sum, number) => sum + number, 0);
  return ids.map((id, at) => ({ id, grp, list_id, revision, checksum, size: ids.length, mark: numbers[at] }));
}

const ids = (count) => Array.from({ length: count }, () => randomUUID());
const must = ({ data, error }) => {
  if (error) throw new Error(JSON.stringify(error));
  return data;
};

async function change() {
  const known = [...groups.keys()];
  const grp = known[below(known.length || 1)];
  const choice = known.length < 2 ? 0 : below(10);
  if (choice < 3 && known.length < 8) {
    const made = randomUUID();
    const rows = rewritten(made, ids(1 + below(mostRows)));
    must(await supabase.from('cards').insert(rows));
    groups.set(made, rows.map((row) => row.id));
    return { grp: made, rows };
  }
  if (choice === 9) {
    must(await supabase.from('cards').delete().eq('grp', grp));
    groups.delete(grp);
    return { grp, rows: [] };
  }
  const before = groups.get(grp);
  if (before.length === 1 && below(2) === 0) {
    const [{ id, ...fields }] = rewritten(grp, before);
    must(await supabase.from('cards').update(fields).eq('id', id));
    return { grp, rows: [{ id, ...fields }] };
  }
  const rows = rewritten(grp, [...before, ...ids(below(mostRows + 1 - before.length))]);
  must(await supabase.from('cards').upsert(rows));
  groups.set(grp, rows.map((row) => row.id));
  return { grp, rows };
}

/** The groups of which only a part was seen, all tables in one request. */
async function halves() {
  const fields = 'grp,revision,checksum,size,mark';
  const boards = must(await supabase.from('boards').select(`${fields},lists(${fields},cards(${fields}))`));
  const lists = boards.flatMap((board) => board.lists);
  const seen = new Map();
  for (const row of [...boards, ...lists, ...lists.flatMap((list) => list.cards)])
    seen.set(row.grp, [...(seen.get(row.grp) ?? []), row]);
  const isWhole = (rows) =>
    rows.length === rows[0].size &&
    rows.every((row) => row.revision === rows[0].revision && row.checksum === rows[0].checksum) &&
    rows.reduce((sum, row) => sum + row.mark, 0) === rows[0].checksum;
  return [...seen.values()].filter((rows) => !isWhole(rows));
}

for await (const _ of createInterface({ input: process.stdin })) {
  const { grp, rows } = await change();
  process.stdout.write(`${JSON.stringify({ grp, rows, halves: await halves() })}\n`);
}
process.exit(0);
