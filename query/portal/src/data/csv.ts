// CSV as rows of texts, as RFC 4180 has it, with a tab or a semicolon where the first line has more of them.

export function parseCsv(text: string, mostRows: number): { rows: string[][]; cut: boolean } {
  const separator = separatorOf(text);
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') {
        cell += '"';
        i++;
      } else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === separator) {
      row.push(cell);
      cell = "";
    } else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[i + 1] === "\n") i++;
      rows.push([...row, cell]);
      if (rows.length >= mostRows) return { rows, cut: i + 1 < text.length };
      row = [];
      cell = "";
    } else cell += c;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return { rows, cut: false };
}

function separatorOf(text: string): string {
  const line = text.slice(0, text.search(/[\r\n]|$/));
  const count = (c: string): number => line.split(c).length;
  return count("\t") > count(",") ? "\t" : count(";") > count(",") ? ";" : ",";
}
