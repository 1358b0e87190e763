// Writes whose failure is shown rather than thrown: a handler that nobody awaits has nobody to catch.

import { useCallback, useRef, useState } from "react";

/** Whether it went well; where it did not, the error is shown until the next one does. */
export type Attempt = (write: () => Promise<unknown>) => Promise<boolean>;

/** `of` is what is written to: the failure of one collection is not shown for another. */
export function useWrites(of: object): [error: Error | null, attempt: Attempt] {
  const [failed, setFailed] = useState<{ of: object; error: Error } | null>(null);
  // Where nothing has failed, success changes nothing, and React is not asked to find that out.
  const hasFailed = useRef(false);
  const attempt = useCallback<Attempt>(
    async (write) => {
      try {
        await write();
        if (hasFailed.current) setFailed(null);
        hasFailed.current = false;
        return true;
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new Error(String(thrown));
        hasFailed.current = true;
        setFailed({ of, error });
        return false;
      }
    },
    [of],
  );
  return [failed?.of === of ? failed.error : null, attempt];
}
