// PostgREST forgives a clock that is up to 30 seconds behind; lite does not. A token that expired within that time is
// signed again for the request that carries it.

import { SignJWT, decodeJwt, jwtVerify } from 'jose';

const skewSeconds = 30;

export async function forgiveSkew(headers, secret) {
  const token = /^Bearer (\S+)$/i.exec(headers.get('authorization') ?? '')?.[1];
  if (!token) return;
  const now = Math.floor(Date.now() / 1000);
  try {
    const { exp } = decodeJwt(token);
    if (!exp || exp > now || exp < now - skewSeconds) return;
    const key = new TextEncoder().encode(secret);
    const { payload, protectedHeader } = await jwtVerify(token, key, { clockTolerance: skewSeconds });
    const renewed = await new SignJWT({ ...payload, exp: now + skewSeconds }).setProtectedHeader(protectedHeader).sign(key);
    headers.set('authorization', `Bearer ${renewed}`);
  } catch {
    // Not a token of ours: lite says what is wrong with it.
  }
}

/** Why Storage refuses a request's token, in its words (it takes the same package); nothing if it does not. */
export async function whyRefused(headers, secret) {
  const token = /^Bearer (\S+)$/i.exec(headers.get('authorization') ?? '')?.[1];
  // Keys may stand there too; those lite knows.
  if (!token || token.startsWith('sb_')) return undefined;
  try {
    await jwtVerify(token, new TextEncoder().encode(secret));
    return undefined;
  } catch (error) {
    return error.message;
  }
}
