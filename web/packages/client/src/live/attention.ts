// The moments in which it is worth trying at once: the network is back, or somebody looks at the page again.

/** Calls back at such moments, until the function it returns is called. Outside browsers there are none. */
export function onAttention(listener: () => void): () => void {
  const page: Document | undefined = globalThis.document;
  const network: Partial<EventTarget> = globalThis;
  const onVisible = () => {
    if (page?.visibilityState === "visible") listener();
  };
  network.addEventListener?.("online", listener);
  page?.addEventListener("visibilitychange", onVisible);
  return () => {
    network.removeEventListener?.("online", listener);
    page?.removeEventListener("visibilitychange", onVisible);
  };
}
