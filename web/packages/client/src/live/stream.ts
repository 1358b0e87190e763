// The one event stream of a client, however many follow it. It asks for all collections that anybody follows, comes
// again by itself, and tells its followers when they have to read anew. What it brings are hints: it holds no records.

import { Backoff } from "../backoff.js";
import { address } from "../caller.js";
import { asError, ConnectionError, ProblemError } from "../errors.js";
import { STREAM_LINGER_MS } from "../limits.js";
import type { Status } from "../shapes.js";
import type { ServerSentEvent, Transport } from "../transport.js";
import { onAttention } from "./attention.js";
import { Lingering } from "./lingering.js";
import { Pause } from "./pause.js";
import { attempt, Listeners, type Store } from "./store.js";

/** What is known of the process. After a loss nothing is: the last status is no longer true. */
export interface LiveState {
  readonly connection: "connecting" | "open" | "lost";
  /** Null while nothing is known. */
  readonly status: Status | null;
  /** Why the connection was lost; it is tried again by itself. */
  readonly error: Error | null;
}

/** Somebody who follows a collection. */
export interface Follower {
  /** Forget what you hold and read what you need: every change from now on is told. */
  fresh(): void;
  /** The connection is back and nothing was missed. */
  resumed(): void;
  /** These records were saved, deleted, pulled, resolved or rolled back. */
  changed(keys: readonly string[]): void;
  /** Changes are not told until `fresh` or `resumed`. */
  lost(error: Error): void;
}

interface Following {
  readonly collection: string;
  /** Whether `fresh` was said, so that from there on it has been told everything. */
  isTold: boolean;
}

const UNKNOWN: LiveState = { connection: "connecting", status: null, error: null };

export class EventStream implements Store<LiveState> {
  private state = UNKNOWN;
  private readonly listeners = new Listeners();
  private readonly followers = new Map<Follower, Following>();
  private readonly use: Lingering;
  private readonly pause = new Pause();
  private readonly backoff = new Backoff();
  /** The connection, or the attempt at one. */
  private connection = new AbortController();
  /** What that one was asked for. */
  private asked: ReadonlySet<string> = new Set();
  private lastEventId: string | undefined;
  /** Whether all collections are asked for: one that is not configured would have the stream refused to all others. */
  private asksForAll = false;
  private isRunning = false;
  private isGathering = false;

  constructor(private readonly transport: Transport) {
    this.use = new Lingering(
      STREAM_LINGER_MS,
      () => this.gather(),
      () => this.stop(),
    );
  }

  subscribe(listener: () => void): () => void {
    const [forget, release] = [this.listeners.add(listener), this.use.use()];
    return () => {
      forget();
      release();
    };
  }

  getSnapshot(): LiveState {
    return this.state;
  }

  /** Follows a collection, until the function it returns is called. */
  follow(collection: string, follower: Follower): () => void {
    const release = this.use.use();
    this.followers.set(follower, { collection, isTold: false });
    this.gather();
    return () => {
      this.followers.delete(follower);
      release();
    };
  }

  /** After all who begin to follow in the same moment have done so, what they need is asked for at once. */
  private gather(): void {
    if (this.isGathering) return;
    this.isGathering = true;
    queueMicrotask(() => {
      this.isGathering = false;
      if (!this.isRunning) void this.run();
      else if ([...this.wanted()].some((collection) => !this.covers(collection))) this.connection.abort();
      else if (this.state.connection === "open") this.catchUp();
      const { error } = this.state;
      if (error !== null) this.each((follower, following) => following.isTold || follower.lost(error));
    });
  }

  private wanted(): Set<string> {
    return new Set([...this.followers.values()].map(({ collection }) => collection));
  }

  private covers(collection: string): boolean {
    return this.asksForAll || this.asked.has(collection);
  }

  private stop(): void {
    this.connection.abort();
    this.pause.cut();
  }

  private async run(): Promise<void> {
    this.isRunning = true;
    const forget = onAttention(() => this.pause.cut());
    while (this.use.isUsed) {
      const { signal } = (this.connection = new AbortController());
      const lost = await this.connect(signal);
      // Aborted by ourselves: more is wanted, or nobody is left.
      if (signal.aborted) continue;
      if (lost instanceof ProblemError && lost.code === "unknown_collection" && !this.asksForAll) {
        this.asksForAll = true;
        continue;
      }
      this.lose(lost);
      await this.pause.wait(this.backoff.next(lost instanceof ProblemError ? lost.retryAfterMs : 0));
    }
    forget();
    this.isRunning = false;
    [this.lastEventId, this.asksForAll] = [undefined, false];
    this.backoff.reset();
    this.become(UNKNOWN);
  }

  /** Hears the stream to its end, and says what ended it. */
  private async connect(signal: AbortSignal): Promise<Error> {
    this.asked = this.wanted();
    const collections = this.asksForAll ? "*" : [...this.asked].sort().join(",") || undefined;
    const path = address(["events"], { collections, status: true });
    try {
      for await (const event of this.transport.events(path, { lastEventId: this.lastEventId, signal })) {
        if (signal.aborted) break;
        this.hear(event);
        if (event.id !== "") this.lastEventId = event.id;
      }
      return new ConnectionError("the tidelock process has ended the event stream");
    } catch (thrown) {
      // What cannot be read would be sent again after the same id.
      if (thrown instanceof SyntaxError) this.lastEventId = undefined;
      return asError(thrown);
    }
  }

  private hear({ event, data }: ServerSentEvent): void {
    if (event === "snapshot" || event === "resumed") {
      const { status } = JSON.parse(data) as { status: Status | null };
      this.backoff.reset();
      this.become({ connection: "open", status, error: null });
      if (event === "snapshot") this.each((_, following) => (following.isTold = false));
      else this.each((follower, following) => following.isTold && follower.resumed());
      this.catchUp();
    } else if (event === "status") {
      this.become({ ...this.state, status: JSON.parse(data) as Status });
    } else if (event === "records") {
      const { collection, keys } = JSON.parse(data) as { collection: string; keys: string[] };
      this.each((follower, following) => following.collection === collection && follower.changed(keys));
    }
  }

  /** Tells those who have not been told yet, as far as the connection covers what they follow. */
  private catchUp(): void {
    this.each((follower, following) => {
      if (following.isTold || !this.covers(following.collection)) return;
      following.isTold = true;
      follower.fresh();
    });
  }

  private lose(error: Error): void {
    this.become({ connection: "lost", status: null, error });
    this.each((follower) => follower.lost(error));
  }

  private each(step: (follower: Follower, following: Following) => unknown): void {
    for (const [follower, following] of [...this.followers]) attempt(() => void step(follower, following));
  }

  private become(state: LiveState): void {
    this.state = state;
    this.listeners.tell();
  }
}
