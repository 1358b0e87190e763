// The shape of everything that changes by itself, as `useSyncExternalStore` and other frameworks want it.

/** Something to look at, and to be told of when it has changed. */
export interface Store<State> {
  /** Calls back after each change, until the function it returns is called. */
  subscribe(listener: () => void): () => void;
  /** What it is now: the same object until it changes. */
  getSnapshot(): State;
}

/** Those who want to be told. One that throws keeps nobody else from being told. */
export class Listeners {
  private readonly listeners = new Set<() => void>();

  add(listener: () => void): () => void {
    // Wrapped, so that the same function may listen twice.
    const own = () => listener();
    this.listeners.add(own);
    return () => void this.listeners.delete(own);
  }

  get size(): number {
    return this.listeners.size;
  }

  tell(): void {
    for (const listener of [...this.listeners]) {
      if (this.listeners.has(listener)) attempt(listener);
    }
  }
}

/** Runs it; what it throws goes where uncaught errors go, and not up into whoever had something to tell. */
export function attempt(step: () => void): void {
  try {
    step();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
