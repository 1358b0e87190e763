// Server-sent events out of bytes, however these were cut, as the WHATWG's standard says
// (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation). `retry` is not
// obeyed: when to come again is decided by the backoff.

import { ConnectionError } from "./errors.js";
import { EVENT_CHARACTERS } from "./limits.js";
import type { ServerSentEvent } from "./transport.js";

export class EventParser {
  private readonly decoder = new TextDecoder("utf-8");
  private rest = "";
  private endedWithReturn = false;
  private event = "";
  private data: string[] = [];
  private length = 0;
  private id = "";

  /** The events that these bytes complete. */
  push(bytes: Uint8Array): ServerSentEvent[] {
    let text = this.decoder.decode(bytes, { stream: true });
    if (text === "") return [];
    // A line feed that follows a carriage return belongs to it, even where the chunk was cut between them.
    if (this.endedWithReturn && text.startsWith("\n")) text = text.slice(1);
    this.endedWithReturn = text === "" ? false : text.endsWith("\r");
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    this.rest = lines.pop() ?? "";
    this.bound(this.rest.length);
    return lines.flatMap((line) => this.take(line) ?? []);
  }

  private take(line: string): ServerSentEvent | undefined {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.event = value;
    if (field === "id" && !value.includes("\0")) this.id = value;
    if (field === "data") {
      this.data.push(value);
      this.length += value.length + 1;
      this.bound(this.length);
    }
    return undefined;
  }

  /** An event without data is none, but its id counts. */
  private dispatch(): ServerSentEvent | undefined {
    const event = { event: this.event || "message", data: this.data.join("\n"), id: this.id };
    const isEvent = this.data.length > 0;
    this.event = "";
    this.data = [];
    this.length = 0;
    return isEvent ? event : undefined;
  }

  private bound(length: number): void {
    if (length > EVENT_CHARACTERS) throw new ConnectionError(`an event has more than ${EVENT_CHARACTERS} characters`);
  }
}
