// A question to the process, and its answer or error. Parts of an address are encoded as a whole, slashes and all.

import { problem } from "./errors.js";
import type { Method, RequestOptions, Transport } from "./transport.js";

/** What a question may be made of beside its address. */
export interface Question extends RequestOptions {
  readonly parameters?: { readonly [name: string]: unknown };
  readonly body?: unknown;
}

export class Caller {
  constructor(readonly transport: Transport) {}

  async ask<T>(method: Method, parts: readonly string[], question: Question = {}): Promise<T> {
    const { parameters = {}, body, signal } = question;
    const answer = await this.transport.request(method, address(parts, parameters), body, { signal });
    if (answer.status < 200 || answer.status > 299) throw problem(answer);
    return answer.body as T;
  }
}

/** An address below `/v1`; parameters that are undefined are left out, what is no text is written as JSON. */
export function address(parts: readonly string[], parameters: { readonly [name: string]: unknown } = {}): string {
  const path = parts.map((part) => `/${encodeURIComponent(part)}`).join("");
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(text(value))}`).join("&");
  return `/v1${path}${query && `?${query}`}`;
}
