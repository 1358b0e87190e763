// @vitest-environment jsdom
import { memo, Profiler, startTransition, useEffect, useState } from "react";
import { act, screen, waitFor } from "@testing-library/react";
import { expect, test } from "vitest";
import { useRecord, useResilientDB, type ResilientDB } from "@tidelock/react";
import { gate, settled } from "../../../testing/until.js";
import { processWith, show, type Run } from "./kit.js";

/** A list that lets the test use what the hook gives. */
function Runs({ tell }: { tell: (db: ResilientDB<Run>) => void }) {
  const db = useResilientDB<Run>();
  tell(db);
  const { runs, isLoading, error } = db;
  return (
    <p>{isLoading ? "loading" : `${runs.map(({ id, n }) => `${id}=${n}`).join(" ")}; ${error?.message ?? "fine"}`}</p>
  );
}

function shown(text: string) {
  return waitFor(() => expect(document.body.textContent).toBe(text));
}

test("a component of the original system works as it is", async () => {
  function RunsList() {
    const { runs, isLoading, refresh } = useResilientDB<Run>();
    useEffect(() => {
      void refresh();
    }, [refresh]);
    return isLoading ? (
      <p>loading</p>
    ) : (
      <ul>
        {runs.map((run) => (
          <li key={run.id}>{run.id}</li>
        ))}
      </ul>
    );
  }
  const fake = processWith(3);
  show(fake, <RunsList />, { isStrict: true });
  expect(screen.getByText("loading")).toBeTruthy();
  await shown("run-00000run-00001run-00002");
  expect(fake.paths("GET")).toHaveLength(1);
});

test("a change shows at once, and no more than that when it was saved", async () => {
  let db!: ResilientDB<Run>;
  let renders = 0;
  const fake = processWith(1);
  show(fake, <Runs tell={(given) => ((db = given), (renders += 1))} />);
  await shown("run-00000=0; fine");
  renders = 0;
  let saved!: Promise<boolean>;
  act(() => void (saved = db.saveRun({ id: "run-00000", n: 1 })));
  expect(document.body.textContent).toBe("run-00000=1; fine");
  expect(await act(() => saved)).toBe(true);
  await act(() => settled());
  expect(renders).toBe(1);
  expect(fake.collections.get("runs")?.get("run-00000")?.["n"]).toBe(1);
});

test("a change that fails is taken back, and the error shows until the next one goes well", async () => {
  let db!: ResilientDB<Run>;
  const fake = processWith(1);
  show(fake, <Runs tell={(given) => (db = given)} />);
  await shown("run-00000=0; fine");
  const slow = gate();
  fake.hold = ({ method }) => (method === "PUT" ? slow.opened : undefined);
  fake.refuse = ({ method }) => (method === "PUT" ? { status: 507, code: "quota_exceeded" } : undefined);
  let saved!: Promise<boolean>;
  act(() => void (saved = db.saveRun({ id: "run-00000", n: 1 })));
  expect(document.body.textContent).toBe("run-00000=1; fine");
  slow.open();
  expect(await act(() => saved)).toBe(false);
  await shown("run-00000=0; refused: quota_exceeded");
  fake.refuse = () => undefined;
  expect(await act(() => db.saveRun({ id: "run-00000", n: 2 }))).toBe(true);
  await shown("run-00000=2; fine");
});

test("a record without a key gets one, and can be deleted", async () => {
  let db!: ResilientDB<Run>;
  const fake = processWith(0);
  show(fake, <Runs tell={(given) => (db = given)} />);
  await shown("; fine");
  await act(() => db.saveRun({ n: 5 }));
  const id = db.runs[0]?.id ?? "";
  expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(db.records).toBe(db.runs);
  expect(fake.collections.get("runs")?.get(id)).toEqual({ id, n: 5 });
  expect(await act(() => db.deleteRun(id))).toBe(true);
  await shown("; fine");
});

test("however many hooks there are, twice mounted, there is one stream, and each thing is read once", async () => {
  function Name({ of }: { of: string }) {
    return <i>{useRecord<Run>("runs", of).record?.id}</i>;
  }
  const fake = processWith(2);
  const hooks = [1, 2, 3].map((each) => <Runs key={each} tell={() => {}} />);
  show(
    fake,
    <>
      {hooks}
      <Name of="run-00000" />
      <Name of="run-00001" />
    </>,
    { isStrict: true },
  );
  await shown("run-00000=0 run-00001=0; fine".repeat(3) + "run-00000run-00001");
  expect(fake.opened).toHaveLength(1);
  expect(fake.requests.map(({ path }) => path.split("?")[0])).toEqual(["/v1/collections/runs/records"]);
});

test("a page that follows another finds what that one has read", async () => {
  let turn!: () => void;
  function Pages() {
    const [page, setPage] = useState(1);
    turn = () => setPage(page + 1);
    return <Runs key={page} tell={() => {}} />;
  }
  const fake = processWith(1);
  show(fake, <Pages />, { isStrict: true });
  await shown("run-00000=0; fine");
  act(() => turn());
  expect(document.body.textContent).toBe("run-00000=0; fine");
  await act(() => settled());
  expect([fake.opened.length, fake.requests.length]).toEqual([1, 1]);
});

test("of ten thousand records the first render shows all, and an update renders one row", async () => {
  const rendered = new Map<string, number>();
  const count = (id: string) => rendered.set(id, (rendered.get(id) ?? 0) + 1);
  const Row = memo(function Row({ run }: { run: Run }) {
    count(run.id);
    return <li>{run.n}</li>;
  });
  function List() {
    const { runs } = useResilientDB<Run>();
    return (
      <ul>
        {runs.map((run) => (
          <Row key={run.id} run={run} />
        ))}
      </ul>
    );
  }
  let commits = 0;
  const fake = processWith(10_000);
  show(
    fake,
    <Profiler id="list" onRender={() => (commits += 1)}>
      <List />
    </Profiler>,
  );
  await waitFor(() => expect(rendered.size).toBe(10_000));
  // Nothing, then everything: no row is rendered twice on the way.
  expect(commits).toBe(2);
  expect(new Set(rendered.values())).toEqual(new Set([1]));
  rendered.clear();
  act(() => fake.change("runs", "run-04711", { id: "run-04711", n: 1 }));
  await waitFor(() => expect(rendered.size).toBeGreaterThan(0));
  expect([...rendered]).toEqual([["run-04711", 1]]);
}, 60_000);

test("rows that look at their own record leave the list alone", async () => {
  const rendered: string[] = [];
  const Row = memo(function Row({ id }: { id: string }) {
    const { record } = useRecord<Run>("runs", id);
    rendered.push(`${id}=${record?.n}`);
    return <li>{record?.n}</li>;
  });
  const rows = Array.from({ length: 1_000 }, (_, at) => <Row key={at} id={`run-${String(at).padStart(5, "0")}`} />);
  const fake = processWith(1_000);
  show(fake, <ul>{rows}</ul>);
  await waitFor(() => expect(rendered).toHaveLength(2_000));
  expect(fake.requests).toHaveLength(1);
  rendered.length = 0;
  act(() => fake.change("runs", "run-00007", { id: "run-00007", n: 7 }));
  await waitFor(() => expect(rendered).toEqual(["run-00007=7"]));
});

test("what React renders and throws away reads nothing and leaves nothing open", async () => {
  let show2!: () => void;
  const forever = new Promise<never>(() => {});
  function Never(): never {
    useResilientDB<Run>("settings");
    throw forever;
  }
  function Page() {
    const [isOpen, setOpen] = useState(false);
    show2 = () => startTransition(() => setOpen(true));
    return isOpen ? <Never /> : <p>waiting</p>;
  }
  const fake = processWith(0);
  show(fake, <Page />);
  act(() => show2());
  await act(() => settled());
  expect(document.body.textContent).toBe("waiting");
  expect([fake.opened.length, fake.requests.length]).toEqual([0, 0]);
});

test("another collection does not show the records, or the error, of the one before", async () => {
  let db!: ResilientDB<Run>;
  let turn!: (to: string) => void;
  function Page() {
    const [collection, setCollection] = useState("runs");
    [db, turn] = [useResilientDB<Run>(collection), setCollection];
    return <p>{db.isLoading ? "loading" : `${db.runs.length} ${db.error?.message ?? "fine"}`}</p>;
  }
  const fake = processWith(2);
  fake.fill("settings", { s: { id: "s" } });
  fake.refuse = ({ method }) => (method === "PUT" ? { status: 507, code: "quota_exceeded" } : undefined);
  show(fake, <Page />);
  await shown("2 fine");
  await act(() => db.saveRun({ id: "x" }));
  await shown("2 refused: quota_exceeded");
  act(() => turn("settings"));
  expect(document.body.textContent).toBe("loading");
  await shown("1 fine");
});
