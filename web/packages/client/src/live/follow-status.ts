// Following what only the status tells of: whenever what is marked in it becomes another, there is something to read.

import type { Status } from "../shapes.js";
import type { EventStream, Follower } from "./stream.js";

export function followStatus(stream: EventStream, mark: (status: Status) => unknown, follower: Follower): () => void {
  let connection = "";
  let marked = "";
  const look = () => {
    const { connection: now, status, error } = stream.getSnapshot();
    if (now === "open" && status !== null) {
      const next = JSON.stringify(mark(status));
      if (connection !== "open") follower.fresh();
      else if (next !== marked) follower.changed([]);
      marked = next;
    }
    if (now === "lost" && error !== null) follower.lost(error);
    connection = now;
  };
  const leave = stream.subscribe(look);
  look();
  return leave;
}
