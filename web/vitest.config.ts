import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// The packages are tested as they are written, not as they were last built.
export default defineConfig({
  resolve: {
    alias: {
      "@tidelock/client": source("./packages/client/src/index.ts"),
      "@tidelock/react": source("./packages/react/src/index.ts"),
    },
  },
  test: { include: ["packages/*/tests/**/*.test.{ts,tsx}"], restoreMocks: true, testTimeout: 30_000 },
});
