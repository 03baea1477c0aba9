// Places in texts. The server counts characters, scripts count halves of surrogate pairs.

/** An error of the server as a sentence: those begin small and end open. */
export function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[\w)'"`]$/.test(begun) ? `${begun}.` : begun;
}

/** Characters (code points) of a text. */
export function codePoints(text: string): number {
  let size = 0;
  for (const _ of text) size++;
  return size;
}

/** Place in a script's text of the character with this number. */
export function offsetOf(text: string, characters: number): number {
  let at = 0;
  for (const character of text) {
    if (characters-- <= 0) break;
    at += character.length;
  }
  return at;
}
