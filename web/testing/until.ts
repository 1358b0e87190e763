// Waiting for what a store is going to show, without sleeping.

import type { Store } from "@tidelock/client";

/** How long a test waits for what does not come. */
const DEADLINE_MS = 15_000;

/** The first state that is as wanted. The store is looked at meanwhile. */
export function until<State>(store: Store<State>, isWanted: (state: State) => boolean): Promise<State> {
  return new Promise((resolve, reject) => {
    const late = () => settle(() => reject(new Error(`never so: ${JSON.stringify(store.getSnapshot())}`)));
    const timer = setTimeout(late, DEADLINE_MS);
    const settle = (end: () => void) => {
      clearTimeout(timer);
      forget();
      end();
    };
    const look = () => {
      const state = store.getSnapshot();
      if (isWanted(state)) settle(() => resolve(state));
    };
    const forget = store.subscribe(look);
    look();
  });
}

/** Lets everything happen that is already under way: a few turns of the event loop. */
export async function settled(turns = 5): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setTimeout(resolve));
}

/** A promise that is fulfilled from outside. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
