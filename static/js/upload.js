/** Send one file of a form by XHR, which tells how far it is; fetch does not. */

/**
 * @param {string} url where the API takes it
 * @param {FormData} fields with the file last, as a form would send them
 * @param {(sent: number, total: number) => void} progress
 * @returns {{done: Promise<object>, cancel: () => void}} `done` rejects with an Error that people can read
 */
export function upload(url, fields, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const answer = parsed(request.responseText);
      if (request.status >= 200 && request.status < 300 && answer) return resolve(answer);
      reject(new Error(words(request.status, answer)));
    });
    request.addEventListener("error", () => reject(new Error("The server did not answer; check the connection and send it again.")));
    request.addEventListener("abort", () => reject(new Error("Cancelled; nothing was stored.")));
  });
  request.open("POST", url);
  request.setRequestHeader("Accept", "application/json");
  request.send(fields);
  return { done, cancel: () => request.abort() };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A problem of the API as one sentence. */
function words(status, answer) {
  const first = answer?.errors?.[0];
  if (first) return `${first.path}: ${first.message}`;
  if (answer?.detail) return answer.detail;
  return status === 413 ? "The file is too large for this server, or for the proxy before it." : `The server answered ${status}.`;
}
