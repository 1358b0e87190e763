// Which process a tree of components talks to.

import { createContext, createElement, useContext, type ReactElement, type ReactNode } from "react";
import type { Tidelock } from "@tidelock/client";

const Context = createContext<Tidelock | undefined>(undefined);

export interface TidelockProviderProps {
  /** Made once, outside of components: `connect({ url, token })`. */
  readonly client: Tidelock;
  readonly children?: ReactNode;
}

export function TidelockProvider({ client, children }: TidelockProviderProps): ReactElement {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the nearest provider. */
export function useTidelock(): Tidelock {
  const client = useContext(Context);
  if (client === undefined) throw new Error("there is no <TidelockProvider client={…}> around this component");
  return client;
}
