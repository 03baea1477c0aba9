// Charts that show the crosshair together.

export interface HasCursor {
  setCursor(x: number | null): void;
}

/** Passes the crosshair of one on to the others, at most once a frame. */
export class Linked {
  private readonly members = new Set<HasCursor>();
  private frame = 0;
  private next: { x: number | null; from: HasCursor } | null = null;

  add(member: HasCursor): () => void {
    this.members.add(member);
    return () => this.members.delete(member);
  }

  tell(from: HasCursor, x: number | null): void {
    this.next = { x, from };
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const told = this.next!;
      for (const member of this.members) if (member !== told.from) member.setCursor(told.x);
    });
  }
}
