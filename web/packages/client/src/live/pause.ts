// Waiting that can be cut short.

export class Pause {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wake: (() => void) | undefined;

  /** Waits so long, or until it is cut. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.cut();
      this.wake = resolve;
      this.timer = setTimeout(() => this.cut(), ms);
    });
  }

  /** Whoever waits goes on now. */
  cut(): void {
    clearTimeout(this.timer);
    this.wake?.();
    this.wake = undefined;
  }
}
