import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect, ProblemError, type LiveRecords, type Tidelock } from "@tidelock/client";
import { until } from "../../../testing/until.js";

// A real process, where the environment names one. `TIDELOCK_COLLECTION` is one that takes local changes; what is made
// there is deleted again.
const { TIDELOCK_URL: url, TIDELOCK_TOKEN: token, TIDELOCK_COLLECTION: name = "runs" } = process.env;

interface Run {
  id: string;
  prompt: string;
  status?: string;
}

describe.skipIf(url === undefined || token === undefined)("with a real process", () => {
  let tidelock: Tidelock;
  let live: LiveRecords<Run>;
  let leave: () => void;
  const made = new Set<string>();
  const key = () => {
    const fresh = crypto.randomUUID();
    made.add(fresh);
    return fresh;
  };
  const shown = (id: string) => live.getSnapshot().records.find((record) => record.id === id);

  beforeAll(async () => {
    tidelock = connect({ url: url ?? "", token: token ?? "" });
    live = tidelock.live.records<Run>(name);
    leave = live.subscribe(() => {});
    await until(live, ({ isLoading, error }) => !isLoading && error === null);
  });
  afterAll(async () => {
    await tidelock.transaction((all) => made.forEach((id) => all.delete(name, id)));
    leave();
  });

  test("what is saved is read, listed, found and deleted", async () => {
    const runs = tidelock.collection<Run>(name);
    const [first, second] = [key(), key()];
    await runs.save(first, { prompt: "a lighthouse" });
    expect(await runs.get(first)).toMatchObject({ id: first, prompt: "a lighthouse" });
    await runs.bulkSave([{ key: second, document: { prompt: "a harbour" } }]);
    expect([...(await runs.read([first, second, "nobody"])).keys()].sort()).toEqual([first, second].sort());
    const filter = [{ field: "id", operator: "in" as const, value: [first, second] }];
    const order = [["prompt", true]] as const;
    const listed = await runs.list({ filter, order, limit: 1 });
    expect(listed.rows.map(([, { prompt }]) => prompt)).toEqual(["a lighthouse"]);
    const found: string[] = [];
    for await (const [, { prompt }] of runs.all({ filter, order })) found.push(prompt);
    expect(found).toEqual(["a lighthouse", "a harbour"]);
    expect(await runs.delete(second)).toBe(true);
    expect(await runs.get(second)).toBeUndefined();
  });

  test("a transaction takes effect as a whole, or not at all", async () => {
    const [first, second] = [key(), key()];
    await tidelock.transaction((all) => {
      all.save(name, { prompt: "together" }, first);
      all.save(name, { prompt: "together" }, second);
    });
    await until(live, () => shown(first) !== undefined && shown(second) !== undefined);
    const refused = tidelock.transaction((all) => {
      all.delete(name, first);
      all.delete("no-such-collection", second);
    });
    await expect(refused).rejects.toMatchObject({ code: "unknown_collection" });
    expect(await tidelock.collection(name).get(first)).toBeDefined();
  });

  test("a live query finds what matches, as soon as it does", async () => {
    const id = key();
    const filter = [{ field: "prompt", operator: "=" as const, value: id }];
    const query = tidelock.live.query<Run>(name, { filter });
    await until(query, ({ isLoading }) => !isLoading);
    await tidelock.collection<Run>(name).save(id, { prompt: id });
    await until(query, ({ records }) => records.length === 1);
  });

  test("an unknown collection is a problem with its code", async () => {
    const error = await tidelock
      .collection("rnus")
      .list()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ProblemError);
    expect(error).toMatchObject({ code: "unknown_collection", status: 404 });
  });

  test("a wrong token is refused", async () => {
    await expect(connect({ url: url ?? "", token: "wrong" }).status()).rejects.toMatchObject({ status: 401 });
  });

  test("the status, and what else can be asked, has the promised shape", async () => {
    expect(await tidelock.status()).toMatchObject({ phase: expect.any(String), pending: expect.any(Number) });
    expect(await tidelock.verify()).toMatchObject({ healthy: true });
    const lists = [
      tidelock.queue.list(),
      tidelock.conflicts.list(),
      tidelock.backups.list(),
      tidelock.rounds(),
      tidelock.logs.list(),
    ];
    for (const list of await Promise.all(lists)) expect(list).toBeInstanceOf(Array);
    expect((await until(tidelock.live, ({ status }) => status !== null)).status?.collections).toHaveProperty(name);
  });

  test("each of a hundred saves is shown, and how long that took is told", async () => {
    const id = key();
    const took: number[] = [];
    for (let number = 0; number < 100; number += 1) {
      const begunAt = performance.now();
      // Past the live store, so that nothing is shown before the process has told of it.
      void tidelock.collection<Run>(name).save(id, { prompt: String(number) });
      await until(live, () => shown(id)?.prompt === String(number));
      took.push(performance.now() - begunAt);
    }
    const sorted = took.sort((a, b) => a - b);
    console.log(`save to event: median ${sorted[50]?.toFixed(1)} ms, p95 ${sorted[95]?.toFixed(1)} ms`);
    expect(sorted).toHaveLength(100);
  }, 30_000);
});
