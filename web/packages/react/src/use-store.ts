// A store as React wants it. `initial` is what a server renders, and a page until it has hydrated.

import { useCallback, useSyncExternalStore } from "react";
import type { Store } from "@tidelock/client";

export function useStore<State>(store: Store<State>, initial: State): State {
  const subscribe = useCallback((listener: () => void) => store.subscribe(listener), [store]);
  const look = useCallback(() => store.getSnapshot(), [store]);
  return useSyncExternalStore(subscribe, look, () => initial);
}
