import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { treeOf } from "../src/data/files";
import { changesOf, diffRows, isBinary } from "../src/data/source";
import { readEntry, readIndex, ZipError, type ReadRange } from "../src/data/zip";

interface Member {
  name: string;
  data: Buffer;
  method?: number;
  mode?: number;
  /** What the index says instead. */
  size?: number;
}

function zipOf(members: Member[]): Buffer {
  const parts: Buffer[] = [];
  const index: Buffer[] = [];
  let place = 0;
  for (const { name, data, method = 8, mode = 0o100644, size = data.length } of members) {
    const named = Buffer.from(name);
    const packed = method === 8 ? deflateRawSync(data) : data;
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(named.length, 26);
    local.writeUInt16LE(4, 28);
    parts.push(local, named, Buffer.from("xx\0\0"), packed);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(data.length ? data[0]! + data.length : 0, 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(size, 24);
    entry.writeUInt16LE(named.length, 28);
    entry.writeUInt32LE((mode << 16) >>> 0, 38);
    entry.writeUInt32LE(place, 42);
    index.push(entry, named);
    place += 34 + named.length + packed.length;
  }
  const directory = Buffer.concat(index);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(place, 16);
  return Buffer.concat([...parts, directory, end]);
}

const reading = (zip: Buffer): ReadRange => async (offset, length) => new Uint8Array(zip.subarray(offset, offset + length));
const textOf = (data: Uint8Array): string => new TextDecoder().decode(data);

test("the files of a zip file, read in pieces", async () => {
  const long = Buffer.from("line\n".repeat(60_000));
  const zip = zipOf([
    { name: "b/ü.py", data: Buffer.from("print(1)\n") },
    { name: "a.txt", data: long },
    { name: "folder/", data: Buffer.from("") },
    { name: "run.sh", data: Buffer.from("#!"), mode: 0o100755, method: 0 },
    { name: "link", data: Buffer.from("../x"), mode: 0o120777 },
    { name: "empty", data: Buffer.from("") },
  ]);
  const entries = await readIndex(reading(zip), zip.length);
  expect(entries.map((one) => [one.path, one.size, one.link, one.executable])).toEqual([
    ["a.txt", 300_000, false, false], ["b/ü.py", 9, false, false], ["empty", 0, false, false], ["link", 4, true, false], ["run.sh", 2, false, true],
  ]);
  const read = async (path: string, most = 1000): Promise<[string, boolean]> => {
    const { data, cut } = await readEntry(reading(zip), entries.find((one) => one.path === path)!, most);
    return [textOf(data), cut];
  };
  expect(await read("b/ü.py")).toEqual(["print(1)\n", false]);
  expect(await read("run.sh")).toEqual(["#!", false]);
  expect(await read("empty")).toEqual(["", false]);
  expect(await read("a.txt", 10)).toEqual(["line\nline\n", true]);
  expect((await read("a.txt", 300_000))[0]).toBe(long.toString());
});

test("a zip file of somebody who means harm is refused, or no more than asked for is made of it", async () => {
  for (const broken of [Buffer.alloc(0), Buffer.from("no zip file"), zipOf([{ name: "a", data: Buffer.from("a") }]).subarray(40)]) {
    await expect(readIndex(reading(broken), broken.length)).rejects.toThrow(ZipError);
  }
  const bomb = zipOf([{ name: "../../etc/passwd", data: Buffer.alloc(50 << 20), size: 3 }, { name: "odd", data: Buffer.from("x"), method: 99 }, { name: "torn", data: Buffer.from("aaaa") }]);
  const entries = await readIndex(reading(bomb), bomb.length);
  const [outside, odd, torn] = entries;
  expect(outside).toMatchObject({ path: "../../etc/passwd" });
  const { data, cut } = await readEntry(reading(bomb), outside!, 1000);
  expect([data.length, cut]).toEqual([1000, true]);
  await expect(readEntry(reading(bomb), odd!, 1000)).rejects.toThrow(/compressed/);
  await expect(readEntry(reading(bomb), { ...torn!, offset: torn!.offset + 1 }, 1000)).rejects.toThrow(/broken/);
  await expect(readEntry(async (offset, length) => (length === 30 ? reading(bomb)(offset, length) : new Uint8Array(length).fill(255)), torn!, 1000)).rejects.toThrow(/broken/);
  const deep = treeOf([{ path: "a/".repeat(30_000) + "b", size: 1 }, { path: "/x//y", size: 2 }]);
  expect([deep.count, deep.size]).toEqual([2, 3]);
});

test("what differs between two snapshots", async () => {
  const entries = async (members: Member[]) => {
    const zip = zipOf(members);
    return readIndex(reading(zip), zip.length);
  };
  const before = await entries([{ name: "a", data: Buffer.from("1") }, { name: "b", data: Buffer.from("1") }, { name: "gone", data: Buffer.from("1") }]);
  const after = await entries([{ name: "a", data: Buffer.from("1") }, { name: "b", data: Buffer.from("2") }, { name: "new", data: Buffer.from("1") }]);
  expect(changesOf(after, before).map((one) => [one.path, one.change])).toEqual([["a", "same"], ["b", "changed"], ["gone", "removed"], ["new", "added"]]);
  expect(changesOf(after, undefined).every((one) => one.change === "same")).toBe(true);
});

test("lines that differ, with their numbers", () => {
  const before = Array.from({ length: 20 }, (_, i) => `line ${i + 1}`);
  const after = [...before.slice(0, 9), "new", ...before.slice(10)];
  const rows = diffRows(before.join("\n") + "\n", after.join("\n"))!;
  expect(rows[0]).toEqual({ kind: "gap", text: "from line 7" });
  expect(rows.filter((row) => row.kind === "removed" || row.kind === "added")).toEqual([
    { kind: "removed", before: 10, text: "line 10" }, { kind: "added", after: 10, text: "new" },
    { kind: "removed", before: 20, text: "line 20" }, { kind: "added", after: 20, text: "line 20" },
  ]);
  expect(rows.filter((row) => row.kind === "note")).toHaveLength(1);
  expect(diffRows("", "a\n")).toEqual([{ kind: "added", after: 1, text: "a" }]);
  expect(diffRows("a", "a")).toEqual([]);
  expect([isBinary(new Uint8Array([65, 0])), isBinary(new Uint8Array([65]))]).toEqual([true, false]);
});
