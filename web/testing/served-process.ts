// A process in memory, served over real HTTP on loopback with a token of its run, as a page finds it.

import type { Method } from "@tidelock/client";
import { FakeProcess } from "./fake-process.js";
import { serve, type Served } from "./served.js";

let runs = 0;

/** One run of a process: another one has another address and another token. */
export interface ServedProcess extends Served {
  readonly token: string;
}

export async function serveProcess(fake: FakeProcess): Promise<ServedProcess> {
  runs += 1;
  const token = `token-${runs}`;
  const { transport } = fake;
  const served = await serve(async (request, response, body) => {
    const path = request.url ?? "";
    if (request.headers.authorization !== `Bearer ${token}`) {
      response.writeHead(401, { "content-type": "application/problem+json" });
      return response.end(JSON.stringify({ code: "unauthorized", detail: "a wrong token", status: 401 }));
    }
    if (!path.startsWith("/v1/events")) {
      const parsed: unknown = body === "" ? undefined : JSON.parse(body);
      const answer = await transport.request(request.method as Method, path, parsed);
      response.writeHead(answer.status, { "content-type": "application/json" });
      return response.end(JSON.stringify(answer.body));
    }
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    const lastEventId = request.headers["last-event-id"]?.toString();
    try {
      for await (const { event, data, id } of transport.events(path, { lastEventId, signal: gone.signal })) {
        response.write(`event: ${event}\nid: ${id}\ndata: ${data}\n\n`);
      }
      return response.end();
    } catch {
      return response.destroy();
    }
  });
  return { ...served, token };
}
