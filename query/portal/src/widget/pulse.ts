// Whether the kernel still follows the run: it tells of each of its readings, also of those that found nothing new.

import type { Model } from "./state";

const SILENCE_MS = 150_000; // a reading waits for 10 seconds, and for 60 more where the server is slow
const LOOK_MS = 10_000;

/** Calls when that may have changed. */
export class Pulse {
  private heard = Date.now();
  private cut = false;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(private readonly model: Model, private readonly changed: () => void) {
    model.on("change", this.hears as never);
    model.on("comm_live_update", this.loses as never); // a kernel that is started again
    this.timer = setInterval(() => this.isLost() && changed(), LOOK_MS);
  }

  isLost(): boolean {
    return this.model.get("live") === true && (this.cut || Date.now() - this.heard > SILENCE_MS);
  }

  close(): void {
    clearInterval(this.timer);
    this.model.off("change", this.hears as never);
    this.model.off("comm_live_update", this.loses as never);
  }

  private readonly hears = (): void => {
    this.heard = Date.now();
    this.cut = false;
    this.changed();
  };

  private readonly loses = (): void => {
    this.cut = true;
    this.changed();
  };
}
