/** Ask the server's API. Every answer is JSON, or an Error whose words people can read and whose `status` is HTTP's. */

/** The token that requests which change something carry. */
export const csrfToken = () => JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];

export async function ask(method, url, csrf, body) {
  const headers = { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": csrf };
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw told(0, "The server does not answer; try again.");
  }
  const found = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return found;
  if (answer.status === 401) throw told(401, "You are signed out; load the page again.");
  throw told(answer.status, found?.errors?.[0]?.message ?? found?.detail ?? `The server answered ${answer.status}.`, found?.errors?.[0]?.path);
}

function told(status, words, path = "") {
  return Object.assign(new Error(words.charAt(0).toUpperCase() + words.slice(1)), { status, path });
}
