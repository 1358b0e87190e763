import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ConnectionError, Tidelock } from "@tidelock/client";
import { FakeProcess } from "../../../testing/fake-process.js";
import { settled, until } from "../../../testing/until.js";

let fake: FakeProcess;
let tidelock: Tidelock;
let leave: (() => void)[];
beforeEach(() => {
  [fake, leave] = [new FakeProcess(), []];
  tidelock = new Tidelock(fake.transport);
});
afterEach(() => {
  leave.forEach((each) => each());
  vi.useRealTimers();
});

const look = (store: { subscribe(listener: () => void): () => void }) => leave.push(store.subscribe(() => {}));
const collectionsOf = (path: string | undefined) =>
  new URL(path ?? "", "http://process").searchParams.get("collections")?.split(",") ?? [];

describe("the event stream", () => {
  test("is one, whoever looks at whatever", async () => {
    const stores = [
      tidelock.live,
      tidelock.live.records("runs"),
      tidelock.live.records("settings"),
      tidelock.live.record("runs", "a"),
      tidelock.live.query("runs", { limit: 5 }),
    ];
    stores.forEach(look);
    await until(tidelock.live, ({ connection }) => connection === "open");
    await settled();
    expect(fake.streams.size).toBe(1);
    expect(fake.opened).toHaveLength(1);
    expect(collectionsOf(fake.opened[0]?.path)).toEqual(["runs", "settings"]);
  });

  test("is opened again after the same event when more is wanted, and the status stays known", async () => {
    look(tidelock.live.records("runs"));
    await until(tidelock.live.records("runs"), ({ isLoading }) => !isLoading);
    const states: string[] = [];
    leave.push(tidelock.live.subscribe(() => states.push(tidelock.live.getSnapshot().connection)));
    fake.change("runs", "a", { id: "a" });
    await until(tidelock.live.records("runs"), ({ records }) => records.length === 1);
    fake.fill("settings", { s: { id: "s" } });
    const settings = await until(tidelock.live.records("settings"), ({ isLoading }) => !isLoading);
    expect(settings.keys).toEqual(["s"]);
    expect(fake.opened[1]).toMatchObject({ lastEventId: "1-1" });
    expect(collectionsOf(fake.opened[1]?.path)).toEqual(["runs", "settings"]);
    expect(new Set(states)).toEqual(new Set(["open"]));
    expect(fake.streams.size).toBe(1);
  });

  test("is closed a moment after the last one has left, and not before", async () => {
    look(tidelock.live);
    await until(tidelock.live, ({ connection }) => connection === "open");
    vi.useFakeTimers();
    leave.splice(0).forEach((each) => each());
    await vi.advanceTimersByTimeAsync(900);
    expect(fake.streams.size).toBe(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(fake.streams.size).toBe(0);
    expect(tidelock.live.getSnapshot()).toEqual({ connection: "connecting", status: null, error: null });
  });

  test("tells the status, and nothing is known of it after a loss", async () => {
    const open = until(tidelock.live, ({ connection }) => connection === "open");
    expect(tidelock.live.getSnapshot()).toEqual({ connection: "connecting", status: null, error: null });
    await open;
    fake.tellStatus({ pending: 3 });
    await until(tidelock.live, ({ status }) => status?.pending === 3);
    fake.kill();
    const lost = await until(tidelock.live, ({ connection }) => connection === "lost");
    expect(lost.status).toBeNull();
    expect(lost.error).toBeInstanceOf(ConnectionError);
    fake.restart();
    fake.status.pending = 1;
    const back = await until(tidelock.live, ({ connection }) => connection === "open");
    expect(back).toMatchObject({ status: { pending: 1 }, error: null });
  });

  test("goes on after the last event, so that nothing is read twice", async () => {
    fake.fill("runs", { a: { id: "a" }, b: { id: "b" } });
    const runs = tidelock.live.records("runs");
    await until(runs, ({ records }) => records.length === 2);
    look(runs);
    fake.change("runs", "a", { id: "a", n: 1 });
    await until(runs, ({ records }) => records.some((record) => record["n"] === 1));
    fake.cut();
    fake.change("runs", "b", { id: "b", n: 2 });
    await until(runs, ({ records }) => records.some((record) => record["n"] === 2));
    expect(fake.opened[1]?.lastEventId).toBe("1-1");
    expect(fake.paths()).toHaveLength(1);
    expect(runs.getSnapshot().error).toBeNull();
  });

  test("that cannot be resumed has everything read anew, and what is gone goes", async () => {
    fake.fill("runs", { a: { id: "a" }, b: { id: "b" } });
    const runs = tidelock.live.records("runs");
    const before = await until(runs, ({ records }) => records.length === 2);
    look(runs);
    fake.kill();
    await until(runs, ({ error }) => error !== null);
    fake.collections.get("runs")?.delete("a");
    fake.restart();
    const after = await until(runs, ({ records, error }) => records.length === 1 && error === null);
    expect(after.records[0]).toBe(before.records[1]);
  });

  test("that was too slow in the middle has everything read anew", async () => {
    const runs = tidelock.live.records("runs");
    await until(runs, ({ isLoading }) => !isLoading);
    look(runs);
    fake.fill("runs", { a: { id: "a" } });
    fake.say("snapshot", JSON.stringify({ status: fake.status }));
    await until(runs, ({ records }) => records.length === 1);
    expect(fake.opened).toHaveLength(1);
  });

  test("is left alone longer after each failure, and tried at once when the network is back", async () => {
    vi.useFakeTimers();
    vi.spyOn(Math, "random").mockReturnValue(1);
    const page = new EventTarget();
    vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
    vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
    fake.kill();
    look(tidelock.live);
    await vi.advanceTimersByTimeAsync(0);
    const opened = [];
    for (const ms of [249, 1, 499, 1, 999, 1]) {
      await vi.advanceTimersByTimeAsync(ms);
      opened.push(fake.opened.length);
    }
    expect(opened).toEqual([1, 2, 2, 3, 3, 4]);
    await vi.advanceTimersByTimeAsync(60_000);
    const patient = fake.opened.length;
    await vi.advanceTimersByTimeAsync(9_000);
    expect(fake.opened.length - patient).toBeLessThanOrEqual(1);
    fake.restart();
    page.dispatchEvent(new Event("online"));
    await vi.advanceTimersByTimeAsync(0);
    expect(tidelock.live.getSnapshot().connection).toBe("open");
    vi.unstubAllGlobals();
  });

  test("that brings nonsense is opened anew from the beginning", async () => {
    const runs = tidelock.live.records("runs");
    await until(runs, ({ isLoading }) => !isLoading);
    look(runs);
    fake.fill("runs", { a: { id: "a" } });
    fake.say("records", "{nonsense");
    await until(runs, ({ records, error }) => records.length === 1 && error === null);
    expect(fake.opened.at(-1)?.lastEventId).toBeUndefined();
  });
});
