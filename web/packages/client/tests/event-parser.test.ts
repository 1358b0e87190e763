import { describe, expect, test } from "vitest";
import { EventParser, type ServerSentEvent } from "@tidelock/client";
import { random, seed } from "../../../testing/random.js";

function parsed(
  text: string | Uint8Array,
  cut: (bytes: Uint8Array) => Uint8Array[] = (bytes) => [bytes],
): ServerSentEvent[] {
  const parser = new EventParser();
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  return cut(bytes).flatMap((chunk) => parser.push(chunk));
}

const EVERYTHING =
  '\uFEFF: a comment\nid: 1\nevent: records\ndata: {"keys":["ä€😀"]}\n\n' +
  "data: one\r\ndata:two\r\n\r\ndata\rdata:  three\rid: 2\r\r:\n\nretry: 5\nunknown: field\nevent\ndata: last\n\ndata: never ended";

const ALL = [
  { event: "records", data: '{"keys":["ä€😀"]}', id: "1" },
  { event: "message", data: "one\ntwo", id: "1" },
  { event: "message", data: "\n three", id: "2" },
  { event: "message", data: "last", id: "2" },
];

describe("an event stream", () => {
  test("is read as the standard says", () => expect(parsed(EVERYTHING)).toEqual(ALL));

  test("may be cut anywhere, twice", () => {
    const bytes = new TextEncoder().encode(EVERYTHING);
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 3) {
        const cut = () => [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
        expect(parsed(bytes, cut), `cut at ${first} and ${second}`).toEqual(ALL);
      }
    }
  });

  test(`is the same however chance cuts it (TIDELOCK_SEED=${seed})`, () => {
    const next = random(seed);
    const pieces = [
      "data: x",
      "data:",
      "event: e",
      "id: 7",
      "id",
      "id: a\0b",
      ": c",
      "",
      "",
      "\r",
      "\n",
      "\r\n",
      "ä€😀",
      "retry: 1",
    ];
    const ends = ["\n", "\r", "\r\n"];
    for (let round = 0; round < 2_000; round += 1) {
      const pick = <T>(from: readonly T[]) => from[Math.floor(next() * from.length)] as T;
      const text = Array.from({ length: 1 + Math.floor(next() * 12) }, () => pick(pieces) + pick(ends)).join("");
      const cut = (bytes: Uint8Array) => {
        const chunks = [];
        for (let from = 0; from < bytes.length;) {
          const to = from + Math.floor(next() * 4);
          chunks.push(bytes.subarray(from, to));
          from = to;
        }
        return chunks;
      };
      expect(parsed(text, cut), JSON.stringify(text)).toEqual(parsed(text));
    }
  });

  test("gives no event without data, but keeps its id", () => {
    expect(parsed("id: 5\nevent: x\n\ndata: y\n\n")).toEqual([{ event: "message", data: "y", id: "5" }]);
  });

  test("takes no id that has a null in it", () => {
    expect(parsed("id: 1\ndata: a\n\nid: b\0c\ndata: d\n\n").map(({ id }) => id)).toEqual(["1", "1"]);
  });

  test("may forget its id", () => {
    expect(parsed("id: 1\ndata: a\n\nid\ndata: b\n\n").map(({ id }) => id)).toEqual(["1", ""]);
  });

  test("is refused where an event never ends", () => {
    const parser = new EventParser();
    const chunk = new TextEncoder().encode("data: ".padEnd(1 << 20, "x"));
    expect(() => {
      for (let megabytes = 0; megabytes < 20; megabytes += 1) parser.push(chunk);
    }).toThrow(/more than/);
  });
});
