// Something that runs while somebody uses it and a little longer: a component that is mounted twice, as React's
// StrictMode does, or a page that follows another, finds it running.

export class Lingering {
  private users = 0;
  private isRunning = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly lingerMs: number,
    private readonly start: () => void,
    private readonly stop: () => void,
  ) {}

  /** Whether somebody uses it, or did until just now. */
  get isUsed(): boolean {
    return this.isRunning;
  }

  /** Uses it until the function it returns is called. */
  use(): () => void {
    this.users += 1;
    clearTimeout(this.timer);
    if (!this.isRunning) {
      this.isRunning = true;
      this.start();
    }
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.users -= 1;
      if (this.users === 0) this.timer = setTimeout(() => this.end(), this.lingerMs);
    };
  }

  private end(): void {
    this.isRunning = false;
    this.stop();
  }
}
