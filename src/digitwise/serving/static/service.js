/** Calls of the service: each answered, refused, or not answered at all. */

const PATIENCE = 30_000; // milliseconds until a call counts as not answered

/** The server did not answer, or asks to come back. */
export class LaterError extends Error {
  constructor(seconds, isGone) {
    super(isGone ? "gone" : "busy");
    this.seconds = seconds;
    this.isGone = isGone;
  }
}

/** The server asks for its token. */
export class TokenError extends Error {}

/** The server refused what was sent, with its reason. */
export class RefusedError extends Error {}

export const token = {
  get: () => sessionStorage.getItem("digitwise-token") ?? "",
  set: (value) => sessionStorage.setItem("digitwise-token", value),
};

/**
 * Calls the service.
 * @param {string} path its address
 * @param {object | Blob | null} body plain data, a picture, or nothing for GET
 */
export async function call(path, body = null) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  const request = { headers, signal: AbortSignal.timeout(PATIENCE), cache: "no-store" };
  if (body !== null) {
    request.method = "POST";
    request.body = body instanceof Blob ? body : JSON.stringify(body);
    const isPicture = body instanceof Blob && body.type.startsWith("image/");
    const kind = isPicture ? body.type : "application/octet-stream";
    headers["Content-Type"] = body instanceof Blob ? kind : "application/json";
  }
  let response, answer;
  try {
    response = await fetch(path, request);
    answer = await response.json();
  } catch {
    throw new LaterError(1, true);
  }
  if (response.ok) return answer;
  if (response.status === 503) {
    throw new LaterError(Number(response.headers.get("Retry-After")) || 1, false);
  }
  if (response.status === 401) throw new TokenError(answer.detail);
  throw new RefusedError(answer.detail);
}

/** Turns packed bytes into numbers. */
export function unpack({ shape, low, high, values }) {
  const bytes = bytesOf(values);
  const step = (high - low) / 255;
  return { shape, low, high, bytes, at: (index) => low + step * bytes[index] };
}

/** Decodes base64. */
export function bytesOf(text) {
  const signs = atob(text);
  const bytes = new Uint8Array(signs.length);
  for (let index = 0; index < signs.length; index++) bytes[index] = signs.charCodeAt(index);
  return bytes;
}
