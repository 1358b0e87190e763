import { afterEach, describe, expect, test } from "vitest";
import { connect, ConnectionError, HttpTransport, ProblemError, type ServerSentEvent } from "@tidelock/client";
import { serve, type Served } from "../../../testing/served.js";

let served: Served;
afterEach(() => served.close());

describe("over HTTP", () => {
  test("a request carries token and body, and a part of an address is encoded as a whole", async () => {
    served = await serve((request, response, body) => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ id: `${request.method} ${request.url} ${request.headers.authorization} ${body}` }));
    });
    const transport = new HttpTransport({ url: served.url + "/", token: "t" });
    const answer = await transport.request("PUT", "/v1/collections/runs/records/a%2Fb", { n: 1 });
    expect(answer).toEqual({ status: 200, body: { id: 'PUT /v1/collections/runs/records/a%2Fb Bearer t {"n":1}' } });
  });

  test("a refusal is a problem with its code, and tells when to come again", async () => {
    served = await serve((_, response) => {
      response.writeHead(429, { "content-type": "application/problem+json", "retry-after": "3" });
      response.end(JSON.stringify({ code: "too_many_requests", detail: "slower", status: 429 }));
    });
    const failed = connect({ url: served.url, token: "t" }).status();
    await expect(failed).rejects.toMatchObject({
      code: "too_many_requests",
      status: 429,
      detail: "slower",
      retryAfterMs: 3_000,
    });
    await expect(failed).rejects.toBeInstanceOf(ProblemError);
  });

  test("a record that is not there is undefined, and an unknown collection an error", async () => {
    served = await serve((request, response) => {
      const code = request.url?.includes("rnus") ? "unknown_collection" : "not_found";
      response
        .writeHead(404, { "content-type": "application/problem+json" })
        .end(JSON.stringify({ code, detail: code }));
    });
    const tidelock = connect({ url: served.url, token: "t" });
    expect(await tidelock.collection("runs").get("x")).toBeUndefined();
    await expect(tidelock.collection("rnus").get("x")).rejects.toMatchObject({ code: "unknown_collection" });
  });

  test("the token is asked anew when it is refused, once for all who wait", async () => {
    served = await serve((request, response) => {
      const isGood = request.headers.authorization === "Bearer new";
      response.writeHead(isGood ? 200 : 401, { "content-type": "application/json" }).end("[]");
    });
    const tokens = ["old", "new", "never"];
    let asked = 0;
    const tidelock = connect({ url: served.url, token: async () => tokens[asked++] ?? "none" });
    await Promise.all([tidelock.rounds(), tidelock.conflicts.list(), tidelock.queue.list()]);
    expect(asked).toBe(2);
  });

  test("a token that stays wrong is an error, and a fixed one is not tried twice", async () => {
    let requests = 0;
    served = await serve((_, response) => {
      requests += 1;
      response.writeHead(401, { "content-type": "application/problem+json" }).end('{"code":"token","detail":"no"}');
    });
    await expect(connect({ url: served.url, token: "t" }).rounds()).rejects.toMatchObject({
      status: 401,
      code: "token",
    });
    expect(requests).toBe(1);
    await expect(connect({ url: served.url, token: () => "t" }).rounds()).rejects.toMatchObject({ status: 401 });
    expect(requests).toBe(3);
  });

  test("a process that is gone is a ConnectionError, and its address is asked anew", async () => {
    served = await serve((_, response) => void response.setHeader("content-type", "application/json").end("[]"));
    const addresses = ["http://127.0.0.1:9", served.url];
    const tidelock = connect({ url: () => addresses.shift() ?? "none", token: "t" });
    await expect(tidelock.rounds()).rejects.toBeInstanceOf(ConnectionError);
    expect(await tidelock.rounds()).toEqual([]);
  });

  test("a signal gives a request up, and that is no ConnectionError", async () => {
    served = await serve(() => {});
    const controller = new AbortController();
    const asked = connect({ url: served.url, token: "t" }).rounds({ signal: controller.signal });
    controller.abort();
    await expect(asked).rejects.toMatchObject({ name: "AbortError" });
  });

  test("events come as they are sent, after the one that was last", async () => {
    served = await serve(async (request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${request.url} ${request.headers["last-event-id"]} ${request.headers.accept}\nid: 9\n`);
      await new Promise((resolve) => setTimeout(resolve));
      response.write("\n: still here\n\nevent: status\nda");
      await new Promise((resolve) => setTimeout(resolve));
      response.end("ta: {}\n\n");
    });
    const { signal } = new AbortController();
    const events: ServerSentEvent[] = [];
    const transport = new HttpTransport({ url: served.url, token: "t" });
    for await (const event of transport.events("/v1/events?status=true", { lastEventId: "8", signal }))
      events.push(event);
    expect(events).toEqual([
      { event: "message", data: "/v1/events?status=true 8 text/event-stream", id: "9" },
      { event: "status", data: "{}", id: "9" },
    ]);
  });

  test("a stream that is silent for too long is dead, one that says anything is not", async () => {
    served = await serve((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: first\n\n");
      let comments = 0;
      const timer = setInterval(() => (response.write(":\n"), (comments += 1) === 20 && clearInterval(timer)), 40);
    });
    const transport = new HttpTransport({ url: served.url, token: "t", silenceMs: 400 });
    const begunAt = performance.now();
    const hear = async () => {
      for await (const _ of transport.events("/v1/events", { signal: new AbortController().signal }));
    };
    await expect(hear()).rejects.toBeInstanceOf(ConnectionError);
    expect(performance.now() - begunAt).toBeGreaterThan(700);
  });

  test("a stream that is given up is closed at the other end", async () => {
    let closed = () => {};
    const isClosed = new Promise<void>((resolve) => (closed = resolve));
    served = await serve((_, response) => {
      response.on("close", closed);
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: first\n\n");
    });
    const transport = new HttpTransport({ url: served.url, token: "t" });
    for await (const _ of transport.events("/v1/events", { signal: new AbortController().signal })) break;
    await isClosed;
  });

  test("a stream that is refused says why", async () => {
    served = await serve((_, response) => {
      response
        .writeHead(503, { "content-type": "application/problem+json" })
        .end('{"code":"too_many_streams","detail":"enough"}');
    });
    const transport = new HttpTransport({ url: served.url, token: "t" });
    const hear = transport.events("/v1/events", { signal: new AbortController().signal })[Symbol.asyncIterator]();
    await expect(hear.next()).rejects.toMatchObject({ code: "too_many_streams", status: 503 });
  });
});
