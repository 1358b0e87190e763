// @vitest-environment jsdom
import { renderToString } from "react-dom/server";
import { act, waitFor } from "@testing-library/react";
import { expect, test } from "vitest";
import { Tidelock } from "@tidelock/client";
import {
  TidelockProvider,
  useBackups,
  useConflicts,
  useSupabaseSync,
  type OpenConflicts,
  type SupabaseSync,
} from "@tidelock/react";
import { settled } from "../../../testing/until.js";
import { processWith, show } from "./kit.js";

let sync!: SupabaseSync;
let renders = 0;
function Sync() {
  sync = useSupabaseSync();
  renders += 1;
  return <p>{`${sync.isOnline ? "online" : "offline"} ${sync.pendingCount} ${sync.lastError ?? "fine"}`}</p>;
}

const shown = (text: string) => waitFor(() => expect(document.body.textContent).toBe(text));

test("the status of the original system's hook, live", async () => {
  const fake = processWith(0);
  fake.status = { ...fake.status, pending: 2, parked: 1, conflicts: 3 };
  show(fake, <Sync />, { isStrict: true });
  expect(document.body.textContent).toBe("offline null fine");
  await shown("online 2 fine");
  expect(sync).toMatchObject({ isSyncing: false, failedCount: 1, conflictCount: 3, lastError: null });
  expect(sync.lastSyncedAt).toEqual(new Date("2026-01-01T00:00:00Z"));
  act(() => fake.tellStatus({ pending: 0, syncing: true }));
  await shown("online 0 fine");
  expect(sync.isSyncing).toBe(true);
  expect(fake.opened).toHaveLength(1);
});

test("a status that changes nothing of it renders nothing", async () => {
  const fake = processWith(0);
  show(fake, <Sync />);
  await shown("online 0 fine");
  renders = 0;
  fake.tellStatus({ pending_bytes: 7, next_round_at: "2026-01-01T00:00:30Z" });
  await act(() => settled());
  expect(renders).toBe(0);
});

test("a process that is killed leaves no number behind, and the page recovers by itself", async () => {
  const fake = processWith(0);
  fake.status = { ...fake.status, pending: 7 };
  show(fake, <Sync />);
  await shown("online 7 fine");
  const lastReport = sync.sync;
  act(() => fake.kill());
  await shown("offline null no connection to tidelock: cut");
  expect(sync).toMatchObject({ failedCount: null, conflictCount: null, lastSyncedAt: null, isSyncing: false });
  expect(sync.sync).toBe(lastReport);
  fake.status = { ...fake.status, pending: 0 };
  fake.restart();
  await shown("online 0 fine");
});

test("a server that cannot be reached is told apart from a process that cannot", async () => {
  const fake = processWith(0);
  fake.status = { ...fake.status, online: false, phase_reason: "the server cannot be reached", pending: 1 };
  show(fake, <Sync />);
  await shown("offline 1 the server cannot be reached");
});

test("a round that fails says why, in all components, and does not throw", async () => {
  const fake = processWith(0);
  fake.refuse = ({ path }) => (path === "/v1/sync" ? { status: 429, code: "slower" } : undefined);
  show(
    fake,
    <>
      <Sync />
      <Sync />
    </>,
  );
  await shown("online 0 fine".repeat(2));
  expect(await act(() => sync.sync())).toBeNull();
  await shown("online 0 refused: slower".repeat(2));
  act(() => fake.tellStatus({ last_synced_at: "2026-01-02T00:00:00Z" }));
  await shown("online 0 fine".repeat(2));
  fake.refuse = () => undefined;
  expect(await act(() => sync.sync())).toMatchObject({ pushed: 0 });
});

test("conflicts are read when the status tells of others, and after one was decided", async () => {
  let open!: OpenConflicts;
  function Conflicts() {
    open = useConflicts();
    return <p>{open.isLoading ? "loading" : `${open.conflicts.length} open; ${open.error?.message ?? "fine"}`}</p>;
  }
  const fake = processWith(0);
  show(fake, <Conflicts />, { isStrict: true });
  await shown("0 open; fine");
  fake.lists.set("conflicts", [{ id: 7 }, { id: 3 }]);
  act(() => fake.tellStatus({ conflicts: 2 }));
  await shown("2 open; fine");
  const [first] = open.conflicts;
  fake.lists.set("conflicts", [{ id: 7 }]);
  expect(await act(() => open.resolve(3, { take: "local" }))).toBe(true);
  await shown("1 open; fine");
  expect(open.conflicts[0]).toBe(first);
  expect(fake.requests.find(({ method }) => method === "POST")).toMatchObject({
    path: "/v1/conflicts/3/resolve",
    body: { take: "local" },
  });
  fake.refuse = ({ method }) => (method === "POST" ? { status: 404, code: "not_found" } : undefined);
  expect(await act(() => open.undo(9))).toBe(false);
  await shown("1 open; refused: not_found");
});

test("backups are listed, and taken", async () => {
  let create!: () => Promise<boolean>;
  function Backups() {
    const { backups, isLoading, createBackup } = useBackups();
    create = createBackup;
    return <p>{isLoading ? "loading" : backups.map(({ id }) => id).join()}</p>;
  }
  const fake = processWith(0);
  fake.lists.set("backups", [{ id: "b1" }]);
  show(fake, <Backups />);
  await shown("b1");
  fake.lists.set("backups", [{ id: "b2" }, { id: "b1" }]);
  expect(await act(() => create())).toBe(true);
  await shown("b2,b1");
});

test("a server renders what is not known yet, and opens nothing", () => {
  const fake = processWith(1);
  const client = new Tidelock(fake.transport);
  expect(
    renderToString(
      <TidelockProvider client={client}>
        <Sync />
      </TidelockProvider>,
    ),
  ).toBe("<p>offline null fine</p>");
  expect(fake.opened).toHaveLength(0);
});

test("a hook outside of a provider says what is missing", () => {
  expect(() => renderToString(<Sync />)).toThrow(/TidelockProvider/);
});
