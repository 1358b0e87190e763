// Things that are made once by name. They are held weakly: a store that somebody looks at is held by the stream that it
// follows, and one that was made for a page which was never shown goes by itself.

export class Shared<T extends object> {
  private readonly made = new Map<string, WeakRef<T>>();
  private readonly gone = new FinalizationRegistry((name: string) => {
    if (this.made.get(name)?.deref() === undefined) this.made.delete(name);
  });

  get(name: string, make: () => T): T {
    const made = this.made.get(name)?.deref();
    if (made !== undefined) return made;
    const fresh = make();
    this.made.set(name, new WeakRef(fresh));
    this.gone.register(fresh, name);
    return fresh;
  }
}
