import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Tidelock, type LiveRecords } from "@tidelock/client";
import { FakeProcess } from "../../../testing/fake-process.js";
import { gate, settled, until } from "../../../testing/until.js";

interface Run {
  id: string;
  n?: number;
  m?: number | null;
}

let fake: FakeProcess;
let runs: LiveRecords<Run>;
let leave: () => void;
beforeEach(async () => {
  fake = new FakeProcess();
  fake.fill("runs", { a: { id: "a", n: 1, m: 1 } });
  runs = new Tidelock(fake.transport).live.records<Run>("runs");
  leave = runs.subscribe(() => {});
  await until(runs, ({ isLoading }) => !isLoading);
});
afterEach(() => leave());

const records = () => runs.getSnapshot().records;

describe("a change made here", () => {
  test("shows at once, laid over the record, and then nothing flickers", async () => {
    const shown: unknown[] = [];
    const forget = runs.subscribe(() => shown.push(records()[0]));
    const saved = runs.save("a", { n: 2 });
    expect(records()).toEqual([{ id: "a", n: 2, m: 1 }]);
    const optimistic = records()[0];
    await saved;
    await settled();
    expect(records()[0]).toBe(optimistic);
    expect(shown).toEqual([{ id: "a", n: 2, m: 1 }]);
    forget();
  });

  test("stays until the record was read after it was saved", async () => {
    const slow = gate();
    fake.hold = ({ path }) => (path.endsWith("/read") ? slow.opened : undefined);
    fake.tell("runs", ["a"]);
    await settled();
    await runs.save("a", { n: 2 });
    slow.open();
    // The answer that was put together before the save says 1.
    fake.hold = ({ path }) => (path.endsWith("/read") ? gate().opened : undefined);
    await settled();
    expect(records()[0]?.n).toBe(2);
  });

  test("is taken back where saving fails, and the caller hears why", async () => {
    const slow = gate();
    fake.refuse = ({ method }) => (method === "PUT" ? { status: 507, code: "quota_exceeded" } : undefined);
    fake.hold = ({ method }) => (method === "PUT" ? slow.opened : undefined);
    const before = records()[0];
    const saved = runs.save("b", { id: "b" });
    const changed = runs.save("a", { n: 2 });
    expect(records()).toEqual([{ id: "a", n: 2, m: 1 }, { id: "b" }]);
    slow.open();
    await expect(saved).rejects.toMatchObject({ code: "quota_exceeded" });
    await expect(changed).rejects.toMatchObject({ code: "quota_exceeded" });
    expect(records()).toEqual([before]);
  });

  test("whose answer was lost shows what became of it once that can be read", async () => {
    const slow = gate();
    fake.hold = () => slow.opened;
    const saved = runs.save("a", { n: 2 });
    await settled();
    fake.kill();
    slow.open();
    await expect(saved).rejects.toMatchObject({ name: "ConnectionError" });
    expect(records()[0]?.n).toBe(1);
    fake.restart();
    await until(runs, () => records()[0]?.n === 2);
  });

  test("is sent after those of the same record that were made before", async () => {
    const slow = gate();
    fake.hold = ({ body }) => ((body as Run | undefined)?.n === 2 ? slow.opened : undefined);
    const both = Promise.all([runs.save("a", { n: 2 }), runs.save("a", { n: 3 })]);
    await settled();
    expect(fake.paths("PUT")).toHaveLength(1);
    slow.open();
    await both;
    expect(fake.collections.get("runs")?.get("a")?.["n"]).toBe(3);
  });

  test("lies over what arrives meanwhile", async () => {
    const slow = gate();
    fake.hold = ({ method }) => (method === "PUT" ? slow.opened : undefined);
    fake.refuse = ({ method }) => (method === "PUT" ? { status: 500, code: "internal" } : undefined);
    const saved = runs.save("a", { n: 2 });
    fake.change("runs", "a", { id: "a", n: 7, m: 7 });
    await until(runs, () => records()[0]?.m === 7);
    expect(records()).toEqual([{ id: "a", n: 2, m: 7 }]);
    slow.open();
    await expect(saved).rejects.toThrow();
    expect(records()).toEqual([{ id: "a", n: 7, m: 7 }]);
  });

  test("may be a deletion, which is taken back where it fails", async () => {
    const deleted = runs.delete("a");
    expect(records()).toEqual([]);
    await deleted;
    await settled();
    expect(records()).toEqual([]);
    fake.refuse = ({ method }) => (method === "DELETE" ? { status: 409, code: "pull_only" } : undefined);
    fake.change("runs", "b", { id: "b" });
    await until(runs, () => records().length === 1);
    await expect(runs.delete("b")).rejects.toMatchObject({ code: "pull_only" });
    expect(records()).toEqual([{ id: "b" }]);
  });

  test("is what travels: what JSON leaves out is not shown, and later mutation is not either", async () => {
    const run: Run = { id: "a", n: 2 };
    const saved = runs.save("a", { ...run, m: undefined } as unknown as Run);
    run.n = 9;
    expect(records()).toEqual([{ id: "a", n: 2, m: 1 }]);
    await saved;
  });
});
