/** Ask the server for pairs and give it votes. */
import { ask } from "./rest.js";

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
