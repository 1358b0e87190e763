// The packages as somebody who has installed them uses them: compiled against what is published, never run.

import { connect, HttpTransport, ProblemError, Tidelock, type Transport } from "@tidelock/client";
import {
  TidelockProvider,
  useBackups,
  useConflicts,
  useRecord,
  useResilientDB,
  useSupabaseSync,
} from "@tidelock/react";

interface Run {
  id: string;
  prompt: string;
  status?: "queued" | "done";
}

const client = connect({ url: "http://127.0.0.1:7373", token: async () => "token" });
declare const channel: Transport;
export const others: Tidelock[] = [
  connect({ transport: channel }),
  new Tidelock(new HttpTransport({ url: () => "", token: "" })),
];

export async function use(signal: AbortSignal): Promise<string> {
  const runs = client.collection<Run>("runs");
  const run = await runs.get("1", { signal });
  // @ts-expect-error: there may be none
  run.prompt;
  await runs.save("1", { status: "done" });
  // @ts-expect-error: no such status
  await runs.save("1", { status: "finished" });
  // @ts-expect-error: no such operator
  await runs.list({ filter: [{ field: "status", operator: "~", value: "done" }] });
  for await (const [key, record] of runs.all({ order: [["status", true]] })) console.log(key, record.prompt);
  await client.transaction((all) => {
    all.save("runs", { prompt: "a lighthouse" });
    all.delete("runs", "1");
  });
  const [operation] = await client.queue.list({ state: "parked" });
  const parked: number | undefined = operation?.id;
  await client.conflicts.resolve(parked ?? 0, { take: "local" });
  // @ts-expect-error: a conflict has two sides
  await client.conflicts.resolve(1, { take: "both" });
  await client.rollback({ round: { number: 7 } }, { dryRun: true });
  const stop = client.live
    .query<Run>("runs", { limit: 10 })
    .subscribe(() => console.log(client.live.getSnapshot().status?.phase));
  stop();
  return client.sync().then(
    ({ pushed }) => `${pushed} sent`,
    (error) => (error instanceof ProblemError ? error.code : "lost"),
  );
}

function Runs() {
  const { runs, isLoading, error, saveRun, deleteRun, refresh } = useResilientDB<Run>();
  const { record } = useRecord<Run>("runs", "1");
  const { isOnline, isSyncing, pendingCount, failedCount, conflictCount, lastSyncedAt, lastError, sync } =
    useSupabaseSync();
  // @ts-expect-error: a count may be unknown
  const isPending = pendingCount > 0;
  const known: number = (pendingCount ?? 0) + (failedCount ?? 0) + (conflictCount ?? 0);
  const { conflicts, resolve } = useConflicts();
  const { backups, createBackup } = useBackups();
  const first: string | undefined = runs[0]?.prompt ?? record?.prompt ?? conflicts[0]?.key ?? backups[0]?.id;
  // @ts-expect-error: nobody changes what is shown but by saving it
  runs.push({ id: "1", prompt: "" });
  return (
    <button
      onClick={sync}
      disabled={isLoading || isSyncing || !isOnline || isPending}
      title={lastError ?? error?.message}
    >
      {known} {first} {lastSyncedAt?.toISOString()}
      <i
        onClick={() =>
          saveRun({ prompt: "a lighthouse" }).then((isSaved) => (isSaved ? deleteRun("1").then(refresh) : undefined))
        }
      />
      <i onClick={() => resolve(1, { merged: { prompt: "both" } }).then(createBackup)} />
    </button>
  );
}

export const page = (
  <TidelockProvider client={client}>
    <Runs />
  </TidelockProvider>
);
