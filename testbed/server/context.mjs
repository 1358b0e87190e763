// What is remembered about the request that is being answered, wherever in the call tree we are.
//
//   body      the request body as text: numbers in it are still exact
//   change    what statements.mjs found out about the rows in that body (see `mendConnection`)
//   status    the HTTP status that PostgREST would give where lite cannot know it
//   error     the first error that the database answered with
//   refusal   an answer decided before any statement ran
//   storage   what a request to Storage is about (storage.mjs); its statements stay as lite wrote them

import { AsyncLocalStorage } from 'node:async_hooks';

const storage = new AsyncLocalStorage();

export const withinRequest = (state, work) => storage.run(state, work);
export const currentRequest = () => storage.getStore();

/** Keeps the first database error of this request: later ones ("transaction is aborted") only follow from it. */
export function recordError(error) {
  const request = storage.getStore();
  if (request) request.error ??= error;
  return error;
}
