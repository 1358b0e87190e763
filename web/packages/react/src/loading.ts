// What is shown before anything was read.

import type { RecordsState } from "@tidelock/client";

export const LOADING: RecordsState<never> = { keys: [], records: [], isLoading: true, error: null };
