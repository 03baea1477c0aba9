// Lines of a log from the bytes of several writers, as they come.

export interface LogLine {
  text: string;
  rank: number | undefined;
  timeMs: number;
}

interface Open {
  decoder: TextDecoder;
  /** Index of the line that has not ended. */
  line: number;
}

export class LogLines {
  lines: LogLine[] = [];
  /** Lines that were let go of at the beginning, because there are too many. */
  dropped = 0;
  private readonly open = new Map<string, Open>();

  constructor(private readonly most = 200_000) {}

  add(writer: string, data: Uint8Array, rank: number | undefined, timeMs: number): void {
    const open = this.open.get(writer) ?? { decoder: new TextDecoder(), line: -1 };
    this.open.set(writer, open);
    const parts = open.decoder.decode(data, { stream: true }).split("\n");
    parts.forEach((part, i) => {
      const going = i === 0 ? this.lines[open.line - this.dropped] : undefined;
      if (going) going.text = overwritten(going.text + part);
      else if (i < parts.length - 1 || part) {
        this.lines.push({ text: overwritten(part), rank, timeMs });
        open.line = this.dropped + this.lines.length - 1;
      }
      if (i < parts.length - 1) open.line = -1;
    });
    if (this.lines.length > this.most * 1.1) {
      const gone = this.lines.length - this.most;
      this.lines = this.lines.slice(gone);
      this.dropped += gone;
    }
  }
}

/** A carriage return goes back to the begin of the line, as progress bars do. One at the end may be that of a line's end. */
export function overwritten(text: string): string {
  const end = text.endsWith("\r") ? text.length - 1 : text.length;
  const at = text.lastIndexOf("\r", end - 1);
  return at < 0 ? text : text.slice(at + 1);
}
