// One after another by name: whoever takes a turn waits for all that took the same one before.

export class Turns {
  private readonly last = new Map<string, Promise<unknown>>();

  async take<T>(name: string, step: () => Promise<T>): Promise<T> {
    const mine = this.after(this.last.get(name), step);
    this.last.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.last.get(name) === mine) this.last.delete(name);
    }
  }

  private async after<T>(before: Promise<unknown> | undefined, step: () => Promise<T>): Promise<T> {
    // Whether the one before went well is its own caller's business.
    await before?.catch(() => undefined);
    return step();
  }
}
