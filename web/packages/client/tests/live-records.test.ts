import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Tidelock, type LiveRecords } from "@tidelock/client";
import { FakeProcess } from "../../../testing/fake-process.js";
import { random, seed } from "../../../testing/random.js";
import { gate, settled, until } from "../../../testing/until.js";

interface Run {
  id: string;
  n?: number;
  done?: boolean;
}

let fake: FakeProcess;
let tidelock: Tidelock;
let runs: LiveRecords<Run>;
let leave: (() => void)[];
beforeEach(() => {
  [fake, leave] = [new FakeProcess(), []];
  tidelock = new Tidelock(fake.transport);
  runs = tidelock.live.records<Run>("runs");
  fake.fill("runs", { a: { id: "a", n: 1 }, b: { id: "b", n: 1 } });
});
afterEach(() => {
  leave.forEach((each) => each());
  vi.useRealTimers();
});

async function opened(): Promise<void> {
  leave.push(runs.subscribe(() => {}));
  await until(runs, ({ isLoading }) => !isLoading);
}
const n = (key: string) => runs.getSnapshot().records.find(({ id }) => id === key)?.n;

describe("a live collection", () => {
  test("reads only what has changed, together, and keeps everything else the same object", async () => {
    await opened();
    const [a, b] = runs.getSnapshot().records;
    fake.change("runs", "b", { id: "b", n: 2 });
    fake.change("runs", "c", { id: "c" });
    const { records, keys } = await until(runs, ({ records }) => records.length === 3);
    expect(keys).toEqual(["a", "b", "c"]);
    expect(records[0]).toBe(a);
    expect(records[1]).not.toBe(b);
    expect(fake.requests.filter(({ path }) => path.endsWith("/read")).map(({ body }) => body)).toEqual([
      { keys: ["b", "c"] },
    ]);
    expect(fake.paths("GET")).toHaveLength(1);
  });

  test("does not change when a hint turns out to be nothing", async () => {
    await opened();
    const before = runs.getSnapshot();
    let told = 0;
    leave.push(runs.subscribe(() => (told += 1)));
    fake.tell("runs", ["a", "nobody"]);
    await settled();
    expect(runs.getSnapshot()).toBe(before);
    expect(told).toBe(0);
  });

  test("reads again what has changed while it was read", async () => {
    await opened();
    const slow = gate();
    fake.hold = ({ path }) => (path.endsWith("/read") ? slow.opened : undefined);
    fake.change("runs", "a", { id: "a", n: 2 });
    await settled();
    fake.change("runs", "a", { id: "a", n: 3 });
    await settled();
    slow.open();
    await until(runs, () => n("a") === 3);
  });

  test("reads again what has changed while everything was read", async () => {
    const slow = gate();
    fake.hold = ({ method }) => (method === "GET" ? slow.opened : undefined);
    const loaded = opened();
    await settled();
    fake.change("runs", "a", { id: "a", n: 2 });
    await settled();
    slow.open();
    await loaded;
    await until(runs, () => n("a") === 2);
  });

  test("is not read twice where somebody asks for it before the stream is open", async () => {
    const slow = gate();
    fake.opening = slow.opened;
    leave.push(runs.subscribe(() => {}));
    const refreshed = runs.refresh();
    await settled();
    slow.open();
    await refreshed;
    await settled();
    expect(runs.getSnapshot().records).toHaveLength(2);
    expect(fake.requests).toHaveLength(1);
  });

  test("takes no answer that was asked for before everything had to be read anew", async () => {
    await opened();
    const slow = gate();
    fake.hold = ({ path }) => (path.endsWith("/read") ? slow.opened : undefined);
    fake.change("runs", "a", { id: "a", n: 2 });
    await settled();
    fake.fill("runs", { a: { id: "a", n: 3 } });
    fake.say("snapshot", JSON.stringify({ status: fake.status }));
    await until(runs, () => n("a") === 3);
    slow.open();
    await settled();
    expect(n("a")).toBe(3);
  });

  test("gives up what it reads when nobody looks any more", async () => {
    fake.hold = ({ method }) => (method === "GET" ? gate().opened : undefined);
    const forget = runs.subscribe(() => {});
    await settled();
    expect(fake.requests).toHaveLength(1);
    vi.useFakeTimers();
    forget();
    await vi.advanceTimersByTimeAsync(300);
    expect(fake.requests[0]?.signal?.aborted).toBe(true);
  });

  test("tries again what could not be read, and says so meanwhile", async () => {
    let refusals = 2;
    fake.refuse = ({ method }) => (method === "GET" && refusals-- > 0 ? { status: 503, code: "part_down" } : undefined);
    leave.push(runs.subscribe(() => {}));
    expect(await until(runs, ({ error }) => error !== null)).toMatchObject({
      isLoading: false,
      error: { code: "part_down" },
    });
    expect(await until(runs, ({ records }) => records.length === 2)).toMatchObject({ error: null });
  });

  test("does not try again what cannot go better", async () => {
    fake.refuse = ({ method }) => (method === "GET" ? { status: 404, code: "unknown_collection" } : undefined);
    leave.push(runs.subscribe(() => {}));
    await until(runs, ({ error }) => error !== null);
    await settled();
    expect(fake.requests).toHaveLength(1);
  });

  test("is read even where the stream cannot be opened", async () => {
    const { transport } = fake;
    const refused = () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error("no streams")) }) });
    const streamless = new Tidelock({ request: transport.request, events: refused }).live.records("runs");
    const { records, error } = await until(streamless, ({ records }) => records.length === 2);
    expect([records.length, error?.message]).toEqual([2, "no streams"]);
  });

  test("has the order of the store: by code points", async () => {
    const keys = ["\u{1F600}", "\uFFEE", "z", "ä", ""];
    fake.collections.clear();
    await opened();
    for (const key of keys) fake.change("runs", key, { id: key });
    const { keys: sorted } = await until(runs, ({ records }) => records.length === keys.length);
    expect(sorted).toEqual(["", "z", "ä", "\uFFEE", "\u{1F600}"]);
  });

  test(`ends as the store is, whatever happens on the way (TIDELOCK_SEED=${seed})`, async () => {
    const next = random(seed);
    const below = (bound: number) => Math.floor(next() * bound);
    fake.hold = () => (below(2) === 0 ? settled(1 + below(3)) : undefined);
    await opened();
    const saves: Promise<unknown>[] = [];
    for (let step = 0; step < 300; step += 1) {
      const key = `k${below(8)}`;
      const what = below(20);
      if (what === 0) fake.cut();
      else if (what === 1) (fake.kill(), fake.restart());
      else if (what < 6) fake.change("runs", key, undefined);
      else if (what < 9) saves.push(runs.save(key, { n: step }).catch(() => {}));
      else fake.change("runs", key, { id: key, n: step });
      if (below(3) === 0) await settled(1);
    }
    await Promise.all(saves);
    const truth = () =>
      [...(fake.collections.get("runs") ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, run]) => run);
    const shown = () => ({ records: runs.getSnapshot().records, error: runs.getSnapshot().error });
    await expect.poll(shown, { timeout: 9_000, interval: 5 }).toEqual({ records: truth(), error: null });
    await settled(20);
    expect(shown()).toEqual({ records: truth(), error: null });
  }, 15_000);
});

describe("a collection that is not configured", () => {
  test("says so, and keeps the others' changes from nobody", async () => {
    fake.unknown = "rnus";
    fake.refuse = ({ path }) => (path.includes("rnus") ? { status: 404, code: "unknown_collection" } : undefined);
    await opened();
    const wrong = tidelock.live.records("rnus");
    expect(await until(wrong, ({ error }) => error?.name === "ProblemError")).toMatchObject({ isLoading: false });
    fake.change("runs", "a", { id: "a", n: 2 });
    await until(runs, () => n("a") === 2);
    expect(tidelock.live.getSnapshot().connection).toBe("open");
  });
});

describe("a single record", () => {
  test("is read with others in one request, and tells only of itself", async () => {
    const [a, b, none] = ["a", "b", "none"].map((key) => tidelock.live.record<Run>("runs", key));
    const told = { a: 0, b: 0 };
    leave.push(
      a!.subscribe(() => (told.a += 1)),
      b!.subscribe(() => (told.b += 1)),
      none!.subscribe(() => {}),
    );
    expect(a!.getSnapshot()).toEqual({ record: undefined, isLoading: true, error: null });
    await until(b!, ({ record }) => record !== undefined);
    expect(none!.getSnapshot()).toEqual({ record: undefined, isLoading: false, error: null });
    expect(fake.requests.map(({ body }) => body)).toEqual([{ keys: ["a", "b", "none"] }]);
    const before = { ...told };
    fake.change("runs", "b", { id: "b", n: 2 });
    await until(b!, ({ record }) => record?.n === 2);
    expect(told.a).toBe(before.a);
    expect(told.b).toBeGreaterThan(before.b);
  });

  test("comes from the list where there is one", async () => {
    await opened();
    const record = tidelock.live.record<Run>("runs", "a");
    leave.push(record.subscribe(() => {}));
    await settled();
    expect(record.getSnapshot().record).toBe(runs.getSnapshot().records[0]);
    expect(fake.requests).toHaveLength(1);
  });

  test("stays up to date when the list is left", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const leaveList = runs.subscribe(() => {});
    await until(runs, ({ isLoading }) => !isLoading);
    const record = tidelock.live.record<Run>("runs", "a");
    leave.push(record.subscribe(() => {}));
    leaveList();
    await vi.advanceTimersByTimeAsync(300);
    expect(record.getSnapshot().record?.n).toBe(1);
    fake.change("runs", "a", { id: "a", n: 5 });
    fake.change("runs", "b", { id: "b", n: 5 });
    await until(record, ({ record }) => record?.n === 5);
    expect(fake.requests.at(-1)?.body).toEqual({ keys: ["a"] });
  });
});

describe("a query", () => {
  test("is asked again for each change, and what has not changed stays the same object", async () => {
    const done = tidelock.live.query<Run>("runs", { filter: [{ field: "done", operator: "=", value: true }] });
    leave.push(done.subscribe(() => {}));
    await until(done, ({ isLoading }) => !isLoading);
    fake.change("runs", "a", { id: "a", done: true });
    const first = await until(done, ({ records }) => records.length === 1);
    fake.change("runs", "b", { id: "b", done: true });
    const second = await until(done, ({ records }) => records.length === 2);
    expect(second.records[0]).toBe(first.records[0]);
    fake.change("runs", "x", { id: "x" });
    await settled();
    expect(done.getSnapshot()).toBe(second);
  });

  test("is shared by all who ask the same", () => {
    const ask = (limit: number) => tidelock.live.query("runs", { limit });
    expect(ask(5)).toBe(ask(5));
    expect(ask(5)).not.toBe(ask(6));
    expect(tidelock.live.query("runs")).toBe(tidelock.live.records("runs"));
  });
});
