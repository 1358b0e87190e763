// Chance that can be had again: the seed stands in the test's name.

/** Of this run; give it again as `TIDELOCK_SEED` to see the same. */
export const seed = Number(process.env["TIDELOCK_SEED"] ?? Math.floor(Math.random() * 1e9));

/** Numbers in [0, 1) (mulberry32). */
export function random(from: number): () => number {
  let state = from >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
