// One record. A component that shows it renders again only when this record changes, so that a list of ten thousand
// rows renders one.

import { useMemo } from "react";
import type { JsonObject, RecordState } from "@tidelock/client";
import { useTidelock } from "./provider.js";
import { useStore } from "./use-store.js";

const LOADING: RecordState<never> = { record: undefined, isLoading: true, error: null };

export function useRecord<T extends object = JsonObject>(collection: string, key: string): RecordState<T> {
  const { live } = useTidelock();
  const store = useMemo(() => live.record<T>(collection, key), [live, collection, key]);
  return useStore<RecordState<T>>(store, LOADING);
}
