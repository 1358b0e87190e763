// A page: components under a provider, over a process in memory.

import { StrictMode, type ReactElement } from "react";
import { cleanup, configure, render } from "@testing-library/react";
import { afterEach } from "vitest";
import { Tidelock } from "@tidelock/client";
import { TidelockProvider } from "@tidelock/react";
import { FakeProcess } from "../../../testing/fake-process.js";

// A busy machine does not fail what is only waited for.
configure({ asyncUtilTimeout: 20_000 });
afterEach(cleanup);

export interface Run {
  id: string;
  prompt?: string;
  n?: number;
}

/** A process with so many runs. */
export function processWith(runs: number): FakeProcess {
  const fake = new FakeProcess();
  const keys = Array.from({ length: runs }, (_, at) => `run-${String(at).padStart(5, "0")}`);
  fake.fill("runs", Object.fromEntries(keys.map((id) => [id, { id, n: 0 }])));
  return fake;
}

/** Renders it in a page of its own. */
export function show(fake: FakeProcess, page: ReactElement, { isStrict = false } = {}) {
  const client = new Tidelock(fake.transport);
  const provided = <TidelockProvider client={client}>{page}</TidelockProvider>;
  return { client, ...render(isStrict ? <StrictMode>{provided}</StrictMode> : provided) };
}
