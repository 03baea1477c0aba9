// Places in texts. The server counts characters, scripts count halves of surrogate pairs.

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
