// A zip file read in pieces: its index, which stands at its end, then single files of it. Whatever it says is somebody else's
// word: sizes are bounds for what is read, never for what is made, and names are only texts.

export type ReadRange = (offset: number, length: number) => Promise<Uint8Array>;

export interface ZipEntry {
  path: string;
  /** Bytes of the file, as the index says. */
  size: number;
  crc: number;
  /** The content is where the link leads. */
  link: boolean;
  executable: boolean;
  /** Compression: 0 none, 8 deflate. Others can't be read here. */
  method: number;
  encrypted: boolean;
  packed: number;
  offset: number;
}

export class ZipError extends Error {}

const TAIL = 1 << 17;
const MOST_INDEX = 64 << 20;
const MOST_ENTRIES = 200_000;
const END = 0x06054b50;
const END64_PLACE = 0x07064b50;
const END64 = 0x06064b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const LATER = 0xffffffff;

const view = (data: Uint8Array): DataView => new DataView(data.buffer, data.byteOffset, data.byteLength);

/** The files in a zip file of `size` bytes, without folders, by path. Of a path that comes twice the last counts. */
export async function readIndex(read: ReadRange, size: number): Promise<ZipEntry[]> {
  const start = Math.max(0, size - TAIL);
  const tail = await read(start, size - start);
  const at = view(tail);
  let end = tail.length - 22;
  while (end >= 0 && at.getUint32(end, true) !== END) end--;
  if (end < 0) throw new ZipError("This is no zip file: its index is missing.");
  let length = at.getUint32(end + 12, true);
  let offset = at.getUint32(end + 16, true);
  if (end >= 20 && at.getUint32(end - 20, true) === END64_PLACE) {
    const place = number(at, end - 20 + 8);
    const record = place >= 0 && place + 56 <= size ? view(await read(place, 56)) : undefined;
    if (record?.byteLength !== 56 || record.getUint32(0, true) !== END64) throw new ZipError("The index of the zip file is broken.");
    length = number(record, 40);
    offset = number(record, 48);
  }
  if (length > MOST_INDEX) throw new ZipError("The zip file has more files than can be shown here. Download it.");
  if (offset + length > size) throw new ZipError("The zip file is not whole: its index points beyond its end.");
  return entriesOf(offset >= start ? tail.subarray(offset - start, offset - start + length) : await read(offset, length));
}

function number(at: DataView, place: number): number {
  const value = at.getBigUint64(place, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}

function entriesOf(index: Uint8Array): ZipEntry[] {
  const at = view(index);
  const found = new Map<string, ZipEntry>();
  const text = new TextDecoder();
  for (let place = 0; place + 46 <= index.length && at.getUint32(place, true) === ENTRY; ) {
    const named = at.getUint16(place + 28, true);
    const extra = at.getUint16(place + 30, true);
    const path = text.decode(index.subarray(place + 46, place + 46 + named));
    const mode = at.getUint32(place + 38, true) >>> 16;
    let size = at.getUint32(place + 24, true);
    let packed = at.getUint32(place + 20, true);
    let offset = at.getUint32(place + 42, true);
    const extraEnd = Math.min(index.length, place + 46 + named + extra);
    for (let field = place + 46 + named; field + 4 <= extraEnd; field += 4 + at.getUint16(field + 2, true)) {
      if (at.getUint16(field, true) !== 1) continue; // sizes and places beyond 4 GiB, those that did not fit, in this order
      const until = Math.min(extraEnd, field + 4 + at.getUint16(field + 2, true));
      let value = field + 4;
      const next = (now: number): number => {
        if (now !== LATER || value + 8 > until) return now;
        value += 8;
        return number(at, value - 8);
      };
      size = next(size);
      packed = next(packed);
      offset = next(offset);
    }
    if (!path.endsWith("/")) {
      found.set(path, {
        path, size, packed, offset,
        crc: at.getUint32(place + 16, true),
        method: at.getUint16(place + 10, true),
        encrypted: (at.getUint16(place + 8, true) & 1) !== 0,
        link: (mode & 0o170000) === 0o120000,
        executable: (mode & 0o170000) !== 0o120000 && (mode & 0o100) !== 0,
      });
      if (found.size > MOST_ENTRIES) throw new ZipError("The zip file has more files than can be shown here. Download it.");
    }
    place += 46 + named + extra + at.getUint16(place + 32, true);
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The first `most` bytes of a file. However much it would unpack to, no more is made. */
export async function readEntry(read: ReadRange, entry: ZipEntry, most: number): Promise<{ data: Uint8Array; cut: boolean }> {
  if (entry.encrypted) throw new ZipError("The file is encrypted.");
  if (entry.method !== 0 && entry.method !== 8) throw new ZipError("The file is compressed in a way that can't be read here. Download the snapshot.");
  const head = await read(entry.offset, 30);
  const at = view(head);
  if (head.length < 30 || at.getUint32(0, true) !== LOCAL) throw new ZipError("The zip file is broken: the file is not where its index says.");
  const wanted = Math.min(entry.packed, most + (most >> 4) + 1024); // what can't be compressed grows a little
  const packed = wanted ? await read(entry.offset + 30 + at.getUint16(26, true) + at.getUint16(28, true), wanted) : new Uint8Array();
  if (entry.method === 0) return { data: packed.subarray(0, most), cut: entry.packed > most };
  return inflate(packed, most, wanted < entry.packed);
}

async function inflate(packed: Uint8Array, most: number, partial: boolean): Promise<{ data: Uint8Array; cut: boolean }> {
  const reader = new Blob([packed as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const pieces: Uint8Array[] = [];
  let size = 0;
  let cut = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      size += value.length;
      if (size > most) {
        cut = true;
        break;
      }
    }
  } catch {
    if (!partial) throw new ZipError("The file can't be unpacked: the zip file is broken.");
    cut = true;
  }
  void reader.cancel().catch(() => undefined);
  const data = new Uint8Array(Math.min(size, most));
  let place = 0;
  for (const piece of pieces) {
    data.set(piece.subarray(0, data.length - place), place);
    place += Math.min(piece.length, data.length - place);
  }
  return { data, cut };
}
