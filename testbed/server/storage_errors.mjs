// Errors as Supabase Storage answers them. Almost every one of them is HTTP 400, whatever it is: the status it means
// stands in the body, as text.

const error = (status, code, title, message) =>
  Response.json({ statusCode: String(status), code, error: title, message }, { status: status === 500 ? 500 : 400 });

export const accessDenied = (message) => error(403, 'AccessDenied', 'Unauthorized', message);
export const noSuchKey = () => error(404, 'NoSuchKey', 'not_found', 'Object not found');
export const invalidKey = (name) => error(400, 'InvalidKey', 'InvalidKey', `Invalid key: ${name}`);
export const tooLarge = () =>
  error(413, 'EntityTooLarge', 'Payload too large', 'The object exceeded the maximum allowed size');
// Storage passes on what S3 says, with S3's message and name changed over.
export const unsatisfiableRange = () =>
  error(416, 'S3Error', 'The requested range is not satisfiable', 'InvalidRange');
const internal = () => error(500, 'InternalError', 'Internal', 'Internal Server Error');

const codes = {
  'Bucket not found': 'NoSuchBucket',
  Duplicate: 'ResourceAlreadyExists',
  Unauthorized: 'AccessDenied',
  invalid_mime_type: 'InvalidMimeType',
  not_found: 'NoSuchKey',
};

/** The answer that Storage gives where lite answers with an error. */
export async function mendStorageAnswer(response) {
  if (response.status < 400) return response;
  const body = await response.clone().json().catch(() => ({}));
  if (response.status === 500) return internal();
  // What has no status as text is no error of Storage's: an address that does not exist.
  if (typeof body.statusCode !== 'string') return response;
  if (body.statusCode === '413') return tooLarge();
  if (body.error === 'Invalid key') return invalidKey(body.message.replace(/^.*?: /, ''));
  return error(Number(body.statusCode), codes[body.error] ?? body.error, body.error, body.message);
}
