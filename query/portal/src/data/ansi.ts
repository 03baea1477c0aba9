// Terminal colours in log lines, as spans of text with classes. All other control sequences are dropped.

export interface Span {
  text: string;
  /** Classes: "ansi-1" (bold), "ansi-31" (red) …; empty for plain text. */
  style: string;
}

// eslint-disable-next-line no-control-regex
const SEQUENCE = /\u001b(?:\[([0-9;:]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_]|[()][A-Z0-9])/g;
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const KEPT = new Set([1, 2, 3, 4, 7, 9]);

/** A line as spans, and the style that goes on in the next. */
export function spansOf(line: string, before = ""): { spans: Span[]; style: string } {
  const spans: Span[] = [];
  let style = before;
  let at = 0;
  const put = (text: string): void => {
    const plain = text.replace(CONTROLS, "");
    if (plain) spans.push({ text: plain, style });
  };
  for (const match of line.matchAll(SEQUENCE)) {
    put(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") style = changed(style, match[1] ?? "");
  }
  put(line.slice(at));
  return { spans, style };
}

function changed(style: string, codes: string): string {
  const set = new Set(style.split(" ").filter(Boolean));
  const numbers = codes.split(/[;:]/).map(Number);
  for (let i = 0; i < numbers.length; i++) {
    const code = numbers[i]!;
    if (code === 0) set.clear();
    else if (KEPT.has(code)) set.add(`ansi-${code}`);
    else if (code === 22) ["ansi-1", "ansi-2"].forEach((name) => set.delete(name));
    else if (code === 23 || code === 24 || code === 27 || code === 29) set.delete(`ansi-${code - 20}`);
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) replace(set, /^ansi-(3|9)\d$/, `ansi-${code}`);
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) replace(set, /^ansi-(4|10)\d$/, `ansi-${code}`);
    else if (code === 39) replace(set, /^ansi-(3|9)\d$/);
    else if (code === 49) replace(set, /^ansi-(4|10)\d$/);
    else if (code === 38 || code === 48) {
      // Colours by number: the first sixteen are those above, others are left as they are around.
      const base = code === 38 ? 30 : 40;
      if (numbers[i + 1] === 5) {
        const color = numbers[i + 2] ?? -1;
        const pattern = code === 38 ? /^ansi-(3|9)\d$/ : /^ansi-(4|10)\d$/;
        if (color >= 0 && color < 8) replace(set, pattern, `ansi-${base + color}`);
        else if (color >= 8 && color < 16) replace(set, pattern, `ansi-${base + 60 + color - 8}`);
        i += 2;
      } else if (numbers[i + 1] === 2) i += 4;
    }
  }
  return [...set].join(" ");
}

function replace(set: Set<string>, pattern: RegExp, name?: string): void {
  for (const one of [...set]) if (pattern.test(one) && one.length > 6) set.delete(one);
  if (name) set.add(name);
}

/** The text of a line without sequences, for search. */
export function plainText(line: string): string {
  return line.replace(SEQUENCE, "").replace(CONTROLS, "");
}
