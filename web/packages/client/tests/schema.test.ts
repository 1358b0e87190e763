import { readFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import { expect, test } from "vitest";

const file = (name: string) => new URL(`../${name}`, import.meta.url);

test("the types are those of the API's document; `npm run types` makes them anew", async () => {
  const made = astToString(await openapiTS(file("openapi.json"), { defaultNonNullable: false }));
  expect(await readFile(file("src/schema.ts"), "utf8")).toContain(made);
}, 30_000);
