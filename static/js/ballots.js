/** Ask the server for pairs and give it votes. Every answer is JSON, or an Error whose words people can read. */

/** @param {{ballots: string, votes: string, gold?: string}} urls @param {string} csrf */
export function ballotBox(urls, csrf) {
  const send = (method, url, body) => ask(method, url, csrf, body);
  return {
    take: () => send("POST", urls.ballots, {}),
    cast: (ballot, outcome, seconds) => send("POST", urls.votes, { ballot, outcome, seconds }),
    undo: (vote) => send("DELETE", `${urls.votes}/${vote}`),
    mark: (vote) => send("POST", urls.gold, { vote }),
  };
}

async function ask(method, url, csrf, body) {
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
  throw told(answer.status, found?.errors?.[0]?.message ?? found?.detail ?? `The server answered ${answer.status}.`);
}

function told(status, words) {
  return Object.assign(new Error(words.charAt(0).toUpperCase() + words.slice(1)), { status });
}
