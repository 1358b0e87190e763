// A value that is asked for once and kept until it turns out to be wrong: the address and the token of a process, which
// are others after a restart.

import { ConnectionError } from "./errors.js";

/** The value, or how to find it. */
export type Source = string | (() => string | Promise<string>);

export class Remembered {
  private kept: Promise<string> | undefined;

  constructor(
    private readonly name: string,
    private readonly source: Source,
  ) {}

  /** Whether asking again may give another value. */
  get canChange(): boolean {
    return typeof this.source === "function";
  }

  /** The value; whoever asks at the same time shares one question. */
  get(): Promise<string> {
    this.kept ??= this.ask();
    return this.kept;
  }

  /** This value was wrong. One that was asked for meanwhile stays. */
  async forget(wrong: string): Promise<void> {
    const kept = this.kept;
    if (kept !== undefined && (await kept.catch(() => wrong)) === wrong && this.kept === kept) this.kept = undefined;
  }

  private async ask(): Promise<string> {
    const { source } = this;
    try {
      return typeof source === "function" ? await source() : source;
    } catch (cause) {
      this.kept = undefined;
      throw new ConnectionError(`the ${this.name} of the tidelock process could not be found`, { cause });
    }
  }
}
