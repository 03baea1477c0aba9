// What is asked of the kernel, and its answers. It answers when no cell runs, or at once where it can do both.

import type { Model } from "./state";

type Answer = Record<string, unknown> & { id: number; error?: string };

export class Wishes {
  private next = 1;
  private readonly open = new Map<number, { done: (answer: Answer) => void; failed: (error: Error) => void }>();

  constructor(private readonly model: Model) {
    model.on("msg:custom", this.take as never);
  }

  ask(kind: string, more: Record<string, unknown>): Promise<Answer> {
    const id = this.next++;
    return new Promise((done, failed) => {
      this.open.set(id, { done, failed });
      this.model.send({ kind, id, ...more });
    });
  }

  close(): void {
    this.model.off("msg:custom", this.take as never);
    this.open.clear();
  }

  private readonly take = (answer: Answer, buffers: DataView[]): void => {
    const waiting = this.open.get(answer.id);
    if (!waiting) return;
    this.open.delete(answer.id);
    if (answer.error !== undefined) {
      waiting.failed(new Error(answer.error));
      return;
    }
    for (const [name, value] of Object.entries(answer)) {
      if (typeof value === "object" && value !== null && "buffer" in value) answer[name] = buffers[Number(value.buffer)];
    }
    waiting.done(answer);
  };
}
