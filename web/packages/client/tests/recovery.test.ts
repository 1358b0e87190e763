import { afterEach, beforeEach, expect, test } from "vitest";
import { connect, type Tidelock } from "@tidelock/client";
import { FakeProcess } from "../../../testing/fake-process.js";
import { serveProcess, type ServedProcess } from "../../../testing/served-process.js";
import { settled, until } from "../../../testing/until.js";

let fake: FakeProcess;
/** Where the process of this test answers: what an earlier test has left behind does not find it. */
let place: { served: ServedProcess };
let tidelock: Tidelock;
let leave: (() => void)[];
beforeEach(async () => {
  [fake, leave] = [new FakeProcess(), []];
  fake.fill("runs", { a: { id: "a", n: 1 } });
  const here = (place = { served: await serveProcess(fake) });
  tidelock = connect({ url: () => here.served.url, token: () => here.served.token });
});
afterEach(async () => {
  leave.forEach((each) => each());
  await place.served.close();
});

async function opened() {
  const runs = tidelock.live.records("runs");
  leave.push(
    runs.subscribe(() => {}),
    tidelock.live.subscribe(() => {}),
  );
  await until(runs, ({ records }) => records.length === 1);
  return runs;
}

test("a process that is killed and started again, elsewhere and with another token, is found again", async () => {
  fake.status.pending = 7;
  const runs = await opened();
  expect(tidelock.live.getSnapshot().status?.pending).toBe(7);
  fake.kill();
  await place.served.close();
  await until(tidelock.live, ({ connection, status }) => connection === "lost" && status === null);
  fake.fill("runs", { a: { id: "a", n: 2 }, b: { id: "b", n: 2 } });
  fake.status.pending = 0;
  fake.restart();
  place.served = await serveProcess(fake);
  const { records } = await until(runs, ({ records, error }) => records.length === 2 && error === null);
  expect(records.map((run) => run["n"])).toEqual([2, 2]);
  expect(tidelock.live.getSnapshot()).toMatchObject({ connection: "open", status: { pending: 0 }, error: null });
  await runs.save("a", { n: 3 });
  expect(fake.collections.get("runs")?.get("a")?.["n"]).toBe(3);
});

test("a connection that is cut goes on where it was", async () => {
  const runs = await opened();
  fake.change("runs", "a", { id: "a", n: 2 });
  await until(runs, ({ records }) => records[0]?.["n"] === 2);
  const requests = fake.requests.length;
  fake.cut();
  fake.change("runs", "a", { id: "a", n: 3 });
  await until(runs, ({ records }) => records[0]?.["n"] === 3);
  expect(fake.opened.at(-1)?.lastEventId).toBe("1-1");
  expect(fake.requests.length).toBe(requests + 1);
});

test("a stream that nobody looks at any more is closed at the process's end too", async () => {
  await opened();
  expect(fake.streams.size).toBe(1);
  leave.splice(0).forEach((each) => each());
  await expect.poll(() => fake.streams.size, { timeout: 4_000 }).toBe(0);
});

test("saving shows at once, and arrives over the network", async () => {
  const runs = await opened();
  const other = connect({ url: place.served.url, token: place.served.token }).live.records("runs");
  leave.push(other.subscribe(() => {}));
  await until(other, ({ records }) => records.length === 1);
  const saved = runs.save("ä/b", { n: 1 });
  expect(runs.getSnapshot().keys).toEqual(["a", "ä/b"]);
  await saved;
  await until(other, ({ keys }) => keys.includes("ä/b"));
  await settled();
  expect(runs.getSnapshot().records[1]).toMatchObject({ id: "ä/b", n: 1 });
});
